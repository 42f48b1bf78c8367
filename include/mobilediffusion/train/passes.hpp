// SPDX-License-Identifier: Apache-2.0
// A step's gradient as the sum of several passes' gradients, each over its own part of the batch.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "state.hpp"

namespace mobilediffusion::train {

// With as many threads as passes, or fewer, every pass runs on a thread of its own: small layers lose much when they are shared
// among threads, and nothing here. With more threads than passes, the passes run one after another on all of them.
// The sum has the same bits either way: every pass has its own gradients, added in the order of the passes.
template <class W>
class Passes {
 public:
  // stack_floats: of one pass.
  Passes(const Executor& ex, std::size_t count, std::size_t stack_floats) : ex_(ex), extra_(count - 1) {
    const std::size_t threads = static_cast<std::size_t>(ex.threads()), workers = threads <= count ? threads : 1;
    for (std::size_t i = 0; i < workers; ++i)
      workers_.push_back(std::make_unique<Worker>(ex.threads() / static_cast<int>(workers), ex.precision(), stack_floats));
  }

  // Calls f(pass, executor, stack, gradients) for every pass, maybe at the same time, with gradients of zero and an empty
  // stack that keeps; afterwards state.gradients is the sum. f must not throw.
  template <class F>
  void run(TrainState<W>& state, F&& f) {
    state.zero_gradients();
    const auto some = [&](std::size_t begin, std::size_t end, Worker& worker) {
      for (std::size_t i = begin; i < end; ++i) {
        if (i != 0) extra_[i - 1].memory.zero();
        worker.stack.release(0);
        worker.stack.keep(true);
        f(i, worker.executor, worker.stack, i == 0 ? state.gradients : extra_[i - 1].gradients);
      }
    };
    const std::size_t count = extra_.size() + 1;
    if (workers_.size() == 1)
      some(0, count, *workers_.front());
    else
      ex_.parallel_for(count, 1, [&](std::size_t begin, std::size_t end, int thread) {
        some(begin, end, *workers_[static_cast<std::size_t>(thread)]);
      });
    for (const Extra& e : extra_) state.add_gradients(ex_, e.memory);
  }

 private:
  // What one thread, or all of them together, compute a pass with.
  struct Worker {
    Worker(int threads, Precision precision, std::size_t floats) : executor(threads, precision), memory(floats), stack(memory) {}
    Executor executor;
    AlignedBuffer memory;
    Stack stack;
  };
  // Gradients of every pass but the first, whose are the state's.
  struct Extra {
    Extra() : memory(TrainState<W>::floats) { reflect::bind(gradients, memory.data()); }
    AlignedBuffer memory;
    W gradients{};
  };

  const Executor& ex_;
  std::vector<Extra> extra_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace mobilediffusion::train
