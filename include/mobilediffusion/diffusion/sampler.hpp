// SPDX-License-Identifier: Apache-2.0
// Sampling: DDIM (Song et al., arXiv 2010.02502, eta = 0), UFOGen's (Xu et al., arXiv 2311.09257) and
// classifier-free guidance (Ho and Salimans, arXiv 2207.12598).
#pragma once

#include "../core/begin.hpp"

#include <cstddef>

#include "schedule.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Whether a guidance means any: at most 1, and so the 0 of the cards of one-step models, is the prompt alone, as in diffusers.
constexpr bool is_guided(float guidance) { return guidance > 1.0f; }

// output[i] = unconditional[i] + guidance * (conditional[i] - unconditional[i]); output may be either input.
inline void guide(const float* unconditional, const float* conditional, float guidance, float* output, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) output[i] = unconditional[i] + guidance * (conditional[i] - unconditional[i]);
}

// z at `from` -> z at `to`, in place, given the network's output at `from`.
inline void ddim_step(Prediction prediction, NoiseLevel from, NoiseLevel to, const float* output, float* z, std::size_t n) {
  const auto alpha = static_cast<float>(to.alpha), sigma = static_cast<float>(to.sigma);
  for (std::size_t i = 0; i < n; ++i) {
    const Denoised d = denoised(prediction, from, z[i], output[i]);
    z[i] = alpha * d.x + sigma * d.eps;
  }
}

// The picture for which one DDIM step goes from z at `from` to z_to at `to` (Salimans and Ho, arXiv 2202.00512, algorithm 2).
inline float picture_between(NoiseLevel from, NoiseLevel to, float z, float z_to) {
  const float r = static_cast<float>(to.sigma) / static_cast<float>(from.sigma);
  return (z_to - r * z) / (static_cast<float>(to.alpha) - r * static_cast<float>(from.alpha));
}

// output becomes the picture that it stands for.
inline void picture_of(Prediction prediction, NoiseLevel level, const float* z, float* output, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) output[i] = denoised(prediction, level, z[i], output[i]).x;
}

// z = alpha x + sigma noise; z may be x or noise.
inline void add_noise(NoiseLevel level, const float* x, const float* noise, float* z, std::size_t n) {
  const auto alpha = static_cast<float>(level.alpha), sigma = static_cast<float>(level.sigma);
  for (std::size_t i = 0; i < n; ++i) z[i] = alpha * x[i] + sigma * noise[i];
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
