// SPDX-License-Identifier: Apache-2.0
// Threads that compute the parts of a loop together with the thread that asks for it. Where a system has none, define
// MOBILEDIFFUSION_NO_THREADS, the same for all units of a program.
#pragma once

#include "begin.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#ifndef MOBILEDIFFUSION_NO_THREADS
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>
#endif
#if __has_include(<unistd.h>) && !defined(_WIN32)
#include <unistd.h>
#endif

#include "error.hpp"
#include "exclusive_use.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Parts are claimed: each thread takes its own first and then those that nobody has begun, so that nobody waits for a thread
// that sleeps or that another program keeps from its processor, unless it is amid a part. Who waits spins for a bounded time,
// since the next loop mostly follows at once, and then sleeps.
class ThreadPool {
 public:
  using Part = void (*)(void* context, std::size_t part, int thread);

  // threads: at least 1, the caller of run included. Throws Error where the system gives no more.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  // For unique_ptr. A process that was forked has none of the threads, and what they wait at can be neither ended nor destroyed.
  struct Delete {
    void operator()(ThreadPool* pool) const {
      if (!pool->forked()) delete pool;
    }
  };
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Calls part(context, i, thread) for every i below `parts`, which is at most the number of threads; calls at the same time
  // have different threads, 0 to threads - 1. The first exception is rethrown after all have ended; then parts may be left out.
  void run(std::size_t parts, Part part, void* context);

  // Whether this is another process than the one that made the threads: run must not be called in it.
  bool forked() const {
#ifdef MOBILEDIFFUSION_NO_THREADS
    return false;
#else
    return process_ != process();
#endif
  }
  ExclusiveUse& use() { return use_; }

 private:
  ExclusiveUse use_;

#ifndef MOBILEDIFFUSION_NO_THREADS
  // A job's number and its parts in one word: who claims a part knows that both belong together.
  static constexpr int parts_bits = 16;
  static constexpr std::uint64_t parts_mask = (std::uint64_t{1} << parts_bits) - 1;
  static constexpr auto spin = std::chrono::microseconds(60);

  static long process() {
#if __has_include(<unistd.h>) && !defined(_WIN32)
    return static_cast<long>(::getpid());
#else
    return 0;
#endif
  }
  static void relax() {
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    __builtin_ia32_pause();
#elif defined(__GNUC__) && defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
  }

  // Whether `done` came true while spinning. Who is kept from the processor while it spins gives up: others want it.
  template <class Done>
  static bool spins_until(Done&& done) {
    const auto start = std::chrono::steady_clock::now();
    do {
      for (int i = 0; i < 16; ++i) {
        if (done()) return true;
        relax();
      }
    } while (std::chrono::steady_clock::now() - start < spin);
    return done();
  }

  void work(int thread);
  void take_parts(std::uint64_t job, int thread);
  bool claim(std::size_t part, std::uint64_t number) {
    std::uint64_t last = claims_[part].load(std::memory_order_relaxed);
    return last < number && claims_[part].compare_exchange_strong(last, number, std::memory_order_acq_rel);
  }
  void end_workers();

  long process_ = process();
  std::unique_ptr<std::atomic<std::uint64_t>[]> claims_;  // of each part: the last job in which it was claimed
  // The job. All but the word belong to the caller until it sets the word, and to who claimed a part until it has ended.
  Part part_ = nullptr;
  void* context_ = nullptr;
  std::exception_ptr error_;
  std::atomic<bool> failed_{false}, stop_{false};
  alignas(64) std::atomic<std::uint64_t> job_{0};
  alignas(64) std::atomic<std::size_t> unfinished_{0};  // parts
  // Sleeping. Either side first says what it does and then looks at the other, both in the single order of all threads.
  std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::mutex mutex_;
  std::condition_variable new_job_, job_done_;
  std::vector<std::thread> workers_;
#endif
};

#ifdef MOBILEDIFFUSION_BODIES
#ifdef MOBILEDIFFUSION_NO_THREADS

MOBILEDIFFUSION_BODY ThreadPool::ThreadPool(int) {}
MOBILEDIFFUSION_BODY ThreadPool::~ThreadPool() = default;
MOBILEDIFFUSION_BODY void ThreadPool::run(std::size_t parts, Part part, void* context) {
  for (std::size_t i = 0; i < parts; ++i) part(context, i, 0);
}

#else

MOBILEDIFFUSION_BODY ThreadPool::ThreadPool(int threads) {
  const auto count = static_cast<std::size_t>(threads);
  if (threads < 1 || count > parts_mask) throw Error("threads: expected 1 to 65535, found " + std::to_string(threads));
  claims_ = std::make_unique<std::atomic<std::uint64_t>[]>(count);
  try {
    workers_.reserve(count - 1);
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::exception& e) {
    const std::string found = std::to_string(workers_.size() + 1);
    end_workers();
    throw Error("threads: expected " + std::to_string(threads) + ", the system gives " + found + ": " + e.what());
  }
}

MOBILEDIFFUSION_BODY ThreadPool::~ThreadPool() { end_workers(); }

MOBILEDIFFUSION_BODY void ThreadPool::end_workers() {
  {
    const std::lock_guard lock(mutex_);
    stop_.store(true);
    job_.fetch_add(std::uint64_t{1} << parts_bits);
  }
  new_job_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

MOBILEDIFFUSION_BODY void ThreadPool::run(std::size_t parts, Part part, void* context) {
  part_ = part;
  context_ = context;
  failed_.store(false, std::memory_order_relaxed);
  unfinished_.store(parts, std::memory_order_relaxed);
  const std::uint64_t number = (job_.load(std::memory_order_relaxed) >> parts_bits) + 1, job = number << parts_bits | parts;
  job_.store(job);
  if (const int sleepers = sleepers_.load(); sleepers > 0) {
    { const std::lock_guard lock(mutex_); }
    for (std::size_t i = 1; i < parts && i <= static_cast<std::size_t>(sleepers); ++i) new_job_.notify_one();
  }
  take_parts(job, 0);
  const auto done = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
  if (!done() && !spins_until(done)) {
    std::unique_lock lock(mutex_);
    caller_sleeps_.store(true);
    job_done_.wait(lock, [this] { return unfinished_.load() == 0; });
    caller_sleeps_.store(false);
  }
  if (failed_.load(std::memory_order_relaxed)) std::rethrow_exception(std::exchange(error_, nullptr));
}

MOBILEDIFFUSION_BODY void ThreadPool::take_parts(std::uint64_t job, int thread) {
  const std::size_t parts = job & parts_mask;
  const std::uint64_t number = job >> parts_bits;
  std::size_t ended = 0;
  for (std::size_t i = 0; i < parts; ++i) {
    const std::size_t mine = (static_cast<std::size_t>(thread) + i) % parts;
    if (!claim(mine, number)) continue;
    if (!failed_.load(std::memory_order_relaxed)) {
      try {
        part_(context_, mine, thread);
      } catch (...) {
        if (!failed_.exchange(true)) error_ = std::current_exception();
      }
    }
    ++ended;
  }
  if (ended == 0 || unfinished_.fetch_sub(ended) != ended || thread == 0 || !caller_sleeps_.load()) return;
  { const std::lock_guard lock(mutex_); }
  job_done_.notify_one();
}

MOBILEDIFFUSION_BODY void ThreadPool::work(int thread) {
  for (std::uint64_t last = 0;;) {
    const auto changed = [&] { return job_.load(std::memory_order_acquire) != last; };
    if (!spins_until(changed)) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      new_job_.wait(lock, [&] { return job_.load() != last; });
      sleepers_.fetch_sub(1);
    }
    if (stop_.load()) return;
    last = job_.load(std::memory_order_acquire);
    take_parts(last, thread);
  }
}

#endif
#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
