// SPDX-License-Identifier: Apache-2.0
// Deterministic sampling: DDIM (Song et al., arXiv 2010.02502, eta = 0) and classifier-free guidance (Ho and Salimans,
// arXiv 2207.12598).
#pragma once

#include <cstddef>

#include "schedule.hpp"

namespace mobilediffusion {

// output[i] = unconditional[i] + guidance * (conditional[i] - unconditional[i]); output may be either input.
inline void guide(const float* unconditional, const float* conditional, float guidance, float* output, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) output[i] = unconditional[i] + guidance * (conditional[i] - unconditional[i]);
}

// z at `from` -> z at `to`, in place, given the network's output at `from`.
inline void ddim_step(Prediction prediction, NoiseLevel from, NoiseLevel to, const float* output, float* z, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const Denoised d = denoised(prediction, from, z[i], output[i]);
    z[i] = to.alpha * d.x + to.sigma * d.eps;
  }
}

}  // namespace mobilediffusion
