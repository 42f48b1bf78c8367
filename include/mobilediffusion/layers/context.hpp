// SPDX-License-Identifier: Apache-2.0
// What every forward and backward pass is handed, and the arithmetic of its activation memory.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "../core/executor.hpp"
#include "../core/memory.hpp"
#include "../core/param.hpp"
#include "../plan/plan.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// One operation of a layer's forward pass, as a profiler sees it.
struct Operation {
  const char* kind;         // "linear", "conv2d", "attention", ...
  const float* weights;     // the first of the layer's weights in memory: tells which layer it is; null: none
  std::size_t macs, bytes;  // bytes: what must at least be read and written
};

// Told of every operation before and after it, on the calling thread.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void begin(const Operation& operation) = 0;
  virtual void end() = 0;
};

struct Context {
  const Executor& executor;
  Stack& stack;       // activations: released block by block in inference, kept for backward in training
  std::size_t batch;  // images (or captions) that pass together
  bool packed;        // matrices are packed for the kernels (inference); training changes them each step and leaves them plain
  Format format = Format::fp32;  // of packed matrices
  Observer* observer = nullptr;
};

// Tells the observer, if there is one, of the operation that the enclosing braces are.
class Span {
 public:
  Span(const Context& c, const Operation& operation) : observer_(c.observer) {
    if (observer_ != nullptr) observer_->begin(operation);
  }
  ~Span() {
    if (observer_ != nullptr) observer_->end();
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  Observer* observer_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
