// SPDX-License-Identifier: Apache-2.0
// How kernels run: thread count, precision of the products, per-thread scratch. The only parallel loop of the library.
#pragma once

#include "begin.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

#include "memory.hpp"
#include "processors.hpp"
#include "thread_pool.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

enum class Precision {
  fp32,
  bf16,  // products of matrices rounded to bf16, accumulated in fp32; everything else stays fp32
};

// A machine slice: threads, which are made here and end with it, and their scratch. Build one per model or trainer and pass it by
// reference. One caller computes with it at a time: each thread of yours has its own. In a process forked later it computes on
// the thread that calls. What was moved from may only be destroyed or assigned to.
class Executor {
 public:
  static constexpr std::size_t scratch_floats = 512 * 1024;  // per thread: packing buffers, attention tiles

  // threads: 0 means as many as available_processors(); more than that would only wait for each other, and are cut to it. Throws
  // Error where the system refuses a thread. memory: for scratch; null: the free store.
  explicit Executor(int threads = 0, Precision precision = Precision::fp32, MemoryResource* memory = nullptr)
      : Executor(Exactly{count(threads)}, precision, memory) {}

  // With so many threads (at least 1) as said, whatever the machine has: to show that results do not depend on them.
  static Executor oversubscribed(int threads, Precision precision = Precision::fp32) {
    return Executor(Exactly{threads}, precision);
  }

  int threads() const { return threads_; }
  Precision precision() const { return precision_; }
  void set_precision(Precision p) { precision_ = p; }
  std::size_t scratch_bytes() const { return scratch_.bytes(); }
  // Floats of one operand that a product keeps in the second-level cache of this machine. Results do not depend on it.
  std::size_t cached_floats() const { return cached_floats_; }
  float* scratch(int thread) const { return scratch_.data() + static_cast<std::size_t>(thread) * scratch_floats; }
  // False for what was moved from.
  bool usable() const { return pool_ != nullptr; }

  // Calls f(begin, end, thread) on a partition of [0, n) into at most threads() ranges. Two calls at the same time have different
  // threads, each below threads(); a thread may have several ranges. What a range computes must not depend on where it is cut or
  // who computes it: that is what makes results equal on any number of threads. An exception of f is rethrown here when all have
  // ended; some ranges may then be left out. Throws Error inside an f of the same executor and while another thread is in here.
  // grain: fewer than this many items a thread are not worth a thread.
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
    if (n != 0) Exclusive(*this).parallel_for(n, grain, f);
  }

  // One caller's loops in a row, whose scratch keeps between them what it holds. Throws Error as parallel_for.
  class Exclusive {
   public:
    explicit Exclusive(const Executor& ex) : ex_(ex), guard_(ex.use(), in_use) {}
    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
      ex_.loop(n, grain, f);
    }

   private:
    const Executor& ex_;
    ExclusiveUse::Guard guard_;
  };

  // Bytes of a core's second-level cache; where the system does not tell, 1 MiB.
  static std::size_t second_level_cache();

 private:
  struct Exactly {
    int threads;
  };
  Executor(Exactly exactly, Precision precision, MemoryResource* memory = nullptr)
      : threads_(std::max(exactly.threads, 1)),
        precision_(precision),
        scratch_(static_cast<std::size_t>(threads_) * scratch_floats, memory),
        pool_(new ThreadPool(threads_)) {}
  static int count(int threads);

  static constexpr const char* in_use =
      "executor: expected one caller at a time, found two, or a loop inside another; each needs its own";
  ExclusiveUse& use() const;

  template <class F>
  void loop(std::size_t n, std::size_t grain, F& f) const {
    if (n == 0) return;
    const std::size_t useful = grain == 0 ? n : (n + grain - 1) / grain;
    const std::size_t parts = std::clamp<std::size_t>(useful, 1, static_cast<std::size_t>(threads_));
    if (parts == 1 || pool_->forked()) {
      f(std::size_t{0}, n, 0);
      return;
    }
    struct Loop {
      std::size_t n, parts;
      F* f;
    } whole{n, parts, std::addressof(f)};
    pool_->run(
        parts,
        [](void* context, std::size_t part, int thread) {
          const Loop& l = *static_cast<const Loop*>(context);
          (*l.f)(l.n * part / l.parts, l.n * (part + 1) / l.parts, thread);
        },
        &whole);
  }

  int threads_;
  Precision precision_;
  // Three quarters of the cache.
  std::size_t cached_floats_ = std::clamp<std::size_t>(second_level_cache() / 16 * 3, 32 * 1024, 1024 * 1024);
  AlignedBuffer scratch_;
  std::unique_ptr<ThreadPool, ThreadPool::Delete> pool_;
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY std::size_t Executor::second_level_cache() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  if (const long bytes = ::sysconf(_SC_LEVEL2_CACHE_SIZE); bytes > 0) return static_cast<std::size_t>(bytes);
#endif
  return std::size_t{1} << 20;
}

MOBILEDIFFUSION_BODY int Executor::count(int threads) {
  if (threads == 1) return 1;
  const int available = available_processors();
  return threads > 0 ? std::min(threads, available) : available;
}

MOBILEDIFFUSION_BODY ExclusiveUse& Executor::use() const {
  if (pool_ == nullptr) throw Error("executor: expected one that is in use, found one that was moved from");
  return pool_->use();
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
