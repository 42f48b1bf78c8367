// SPDX-License-Identifier: Apache-2.0
// How kernels run: thread count, precision of the products, per-thread scratch. The only parallel loop of the library.
#pragma once

#include "begin.hpp"

#include <algorithm>
#include <cstddef>
#if __has_include(<unistd.h>)
#include <unistd.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

#include "memory.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

enum class Precision {
  fp32,
  bf16,  // products of matrices rounded to bf16, accumulated in fp32; everything else stays fp32
};

// Value semantics of a machine slice: build one per model or trainer and pass it by reference. Not shared between
// threads that compute at the same time: each has its own.
class Executor {
 public:
  static constexpr std::size_t scratch_floats = 512 * 1024;  // per thread: packing buffers, attention tiles

  // threads: 0 means all that the machine has.
  explicit Executor(int threads = 0, Precision precision = Precision::fp32)
      : threads_(threads > 0 ? threads : hardware_threads()),
        precision_(precision),
        scratch_(static_cast<std::size_t>(threads_) * scratch_floats) {}

  int threads() const { return threads_; }
  Precision precision() const { return precision_; }
  void set_precision(Precision p) { precision_ = p; }
  std::size_t scratch_bytes() const { return scratch_.bytes(); }
  // Floats of one operand that a product keeps in the second-level cache of this machine. Results do not depend on it.
  std::size_t cached_floats() const { return cached_floats_; }
  float* scratch(int thread) const { return scratch_.data() + static_cast<std::size_t>(thread) * scratch_floats; }

  // Calls f(begin, end, thread) on a static partition of [0, n) into at most threads() ranges. What a range computes must
  // not depend on where it is cut: that is what makes results equal on any number of threads.
  // grain: fewer than this many items a thread are not worth a thread.
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
#ifdef _OPENMP
    const std::size_t useful = grain == 0 ? n : (n + grain - 1) / grain;
    const int parts = static_cast<int>(std::clamp<std::size_t>(useful, 1, static_cast<std::size_t>(threads_)));
    if (parts > 1) {
#pragma omp parallel for num_threads(parts) schedule(static, 1)
      for (int t = 0; t < parts; ++t)
        f(n * static_cast<std::size_t>(t) / static_cast<std::size_t>(parts),
          n * static_cast<std::size_t>(t + 1) / static_cast<std::size_t>(parts), t);
      return;
    }
#else
    static_cast<void>(grain);
#endif
    if (n != 0) f(std::size_t{0}, n, 0);
  }

  // Bytes of a core's second-level cache; where the system does not tell, 1 MiB.
  static std::size_t second_level_cache() {
#ifdef _SC_LEVEL2_CACHE_SIZE
    if (const long bytes = ::sysconf(_SC_LEVEL2_CACHE_SIZE); bytes > 0) return static_cast<std::size_t>(bytes);
#endif
    return std::size_t{1} << 20;
  }

  static int hardware_threads() {
#ifdef _OPENMP
    return omp_get_num_procs();
#else
    return 1;
#endif
  }

 private:
  int threads_;
  Precision precision_;
  // Three quarters of the cache.
  std::size_t cached_floats_ = std::clamp<std::size_t>(second_level_cache() / 16 * 3, 32 * 1024, 1024 * 1024);
  AlignedBuffer scratch_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
