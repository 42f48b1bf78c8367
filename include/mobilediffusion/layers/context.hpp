// SPDX-License-Identifier: Apache-2.0
// What every forward and backward pass is handed, and the arithmetic of its activation memory.
#pragma once

#include <algorithm>
#include <cstddef>

#include "../core/executor.hpp"
#include "../core/memory.hpp"
#include "../core/param.hpp"
#include "../plan/plan.hpp"

namespace mobilediffusion {

struct Context {
  const Executor& executor;
  Stack& stack;       // activations: released block by block in inference, kept for backward in training
  std::size_t batch;  // images (or captions) that pass together
  bool packed;        // matrices are packed for the kernels (inference); training changes them each step and leaves them plain
};

}  // namespace mobilediffusion
