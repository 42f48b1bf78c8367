// SPDX-License-Identifier: Apache-2.0
// What every forward and backward pass is handed, and the arithmetic of its activation memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>

#include "../core/executor.hpp"
#include "../core/memory.hpp"
#include "../core/param.hpp"

namespace mobilediffusion {

struct Context {
  const Executor& executor;
  Stack& stack;       // activations: released block by block in inference, kept for backward in training
  std::size_t batch;  // images (or captions) that pass together
  bool packed;        // matrices are packed for the kernels (inference); training changes them each step and leaves them plain
};

// How the activation stack is planned: what a pass takes for itself plus, of its parts, the largest (inference: each part
// releases its own) or all (training: nothing is released before backward).
enum class Plan { inference, training };

constexpr std::size_t parts(Plan plan, std::initializer_list<std::size_t> floats) {
  std::size_t total = 0;
  for (std::size_t f : floats) total = plan == Plan::training ? total + f : std::max(total, f);
  return total;
}

}  // namespace mobilediffusion
