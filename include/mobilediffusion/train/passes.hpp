// SPDX-License-Identifier: Apache-2.0
// A step's gradient as the sum of several passes' gradients, each over its own part of the batch.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "state.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

// With as many threads as passes, or fewer, every pass runs on a thread of its own: small layers lose much when they are shared
// among threads, and nothing here. With more threads than passes, the passes run one after another on all of them.
class Workers {
 public:
  // ex must live longer (a temporary does not compile). stack_floats: of one pass.
  Workers(std::reference_wrapper<const Executor> ex, std::size_t count, std::size_t stack_floats) : ex_(ex), count_(count) {
    const std::size_t threads = static_cast<std::size_t>(ex_.threads()), workers = threads <= count ? threads : 1;
    for (std::size_t i = 0; i < workers; ++i)
      workers_.push_back(std::make_unique<Worker>(ex_.threads() / static_cast<int>(workers), ex_.precision(), stack_floats));
  }
  std::size_t size() const { return workers_.size(); }

  // Calls f(pass, worker, executor, stack) for every pass, maybe at the same time, with an empty stack that keeps. worker, below
  // size(): it has one pass at a time. An exception of f, such as a stack's that is too small, is thrown here when the others
  // have ended.
  template <class F>
  void run(F&& f) {
    const auto some = [&](std::size_t begin, std::size_t end, std::size_t worker) {
      Worker& w = *workers_[worker];
      for (std::size_t i = begin; i < end; ++i) {
        w.stack.release(0);
        w.stack.keep(true);
        f(i, worker, w.executor, w.stack);
      }
    };
    if (size() == 1) some(0, count_, 0);
    else
      ex_.parallel_for(
          count_, 1, [&](std::size_t begin, std::size_t end, int thread) { some(begin, end, static_cast<std::size_t>(thread)); });
  }

 private:
  // What one thread, or all of them together, compute a pass with.
  struct Worker {
    Worker(int threads, Precision precision, std::size_t floats) : executor(threads, precision), memory(floats), stack(memory) {}
    Executor executor;
    AlignedBuffer memory;
    Stack stack;
  };

  const Executor& ex_;
  std::size_t count_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// Passes on Workers, with the sum of their gradients. It has the same bits on any number of threads: every pass has its own
// gradients, added in the order of the passes.
template <class W>
class Passes {
 public:
  // As Workers.
  Passes(std::reference_wrapper<const Executor> ex, std::size_t count, std::size_t stack_floats)
      : ex_(ex), extra_(count - 1), workers_(ex, count, stack_floats) {}

  // Calls f(pass, executor, stack, gradients) for every pass, maybe at the same time, with gradients of zero and an empty
  // stack that keeps; afterwards state.gradients is the sum. Exceptions: as Workers.
  template <class F>
  void run(TrainState<W>& state, F&& f) {
    state.zero_gradients();
    workers_.run([&](std::size_t i, std::size_t, const Executor& ex, Stack& stack) {
      if (i != 0) extra_[i - 1].memory.zero();
      f(i, ex, stack, i == 0 ? state.gradients : extra_[i - 1].gradients);
    });
    for (const Extra& e : extra_) state.add_gradients(ex_, e.memory);
  }

 private:
  // Gradients of every pass but the first, whose are the state's.
  struct Extra {
    Extra() : memory(TrainState<W>::floats) { reflect::bind(gradients, memory.data()); }
    AlignedBuffer memory;
    W gradients{};
  };

  const Executor& ex_;
  std::vector<Extra> extra_;
  Workers workers_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
