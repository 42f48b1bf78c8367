// SPDX-License-Identifier: Apache-2.0
// Constexpr arithmetic of activation memory.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "../core/param.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// What becomes of a part's activations when it ends: released (inference) or kept for backward (training).
enum class Plan { inference, training };

// A forward pass without its arithmetic: the same takes and parts in the same order give the exact peak of its stack.
struct Planned {
  Plan plan;
  std::size_t used = 0, peak = 0;  // floats

  constexpr Planned& take(std::size_t floats) {
    used += aligned(floats);
    peak = std::max(peak, used);
    return *this;
  }
  constexpr Planned& part(std::size_t floats) {  // something with a scope of its own, that peaks at `floats`
    peak = std::max(peak, used + floats);
    if (plan == Plan::training) used += floats;
    return *this;
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
