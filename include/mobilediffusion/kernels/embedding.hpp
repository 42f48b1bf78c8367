// SPDX-License-Identifier: Apache-2.0
// Token and timestep embeddings.
#pragma once

#include "../core/begin.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/kernels/loops.hpp"
#include "mobilediffusion/simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// y[b][i] = table[ids[b][i]] + positions[i]. ids: [batch][length], each within the table (the caller checks);
// table: [vocabulary][width]; positions: [length][width] or null; y: [batch][length][width].
inline void embed_tokens(const Executor& ex, const std::int32_t* ids, std::size_t batch, std::size_t length, const float* table,
                         const float* positions, float* y, std::size_t width) {
  ex.parallel_for(batch * length, grain_for(width), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t row = begin; row < end; ++row) {
      const float* token = table + static_cast<std::size_t>(ids[row]) * width;
      float* out = y + row * width;
      if (positions == nullptr) {
        std::memcpy(out, token, width * sizeof(float));
        continue;
      }
      const float* position = positions + row % length * width;
      for_vectors(0, width,
                  [=](auto lanes, std::size_t c) { lanes.store(out + c, lanes.load(token + c) + lanes.load(position + c)); });
    }
  });
}

// Sinusoids of the timestep as UNets of the Stable Diffusion family take them (diffusers' get_timestep_embedding with
// flip_sin_to_cos and no frequency shift): with half = dim / 2 and f_i = 10000^(-i / half), y = cos(t f_i) for i < half, then
// sin(t f_i), then a zero when dim is odd. t: [batch], in [0, 1000), fractions allowed; y: [batch][dim].
inline void timestep_embedding(const float* t, std::size_t batch, std::size_t dim, float* y) {
  const std::size_t half = dim / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const double frequency = std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(half));
    for (std::size_t b = 0; b < batch; ++b) {
      const double angle = static_cast<double>(t[b]) * frequency;
      y[b * dim + i] = static_cast<float>(std::cos(angle));
      y[b * dim + half + i] = static_cast<float>(std::sin(angle));
    }
  }
  if (dim % 2 != 0)
    for (std::size_t b = 0; b < batch; ++b) y[b * dim + dim - 1] = 0.0f;
}

// Sinusoids of the guidance as a latent consistency model takes them (Luo et al., arXiv 2310.04378, section 4.2; diffusers'
// get_guidance_scale_embedding): with v = 1000 (guidance - 1), half = dim / 2 and f_i = 10000^(-i / (half - 1)), y = sin(v f_i)
// for i < half, then cos(v f_i). guidance: [batch]; y: [batch][dim], dim even and at least 4.
inline void guidance_embedding(const float* guidance, std::size_t batch, std::size_t dim, float* y) {
  const std::size_t half = dim / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const double frequency = std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(half - 1));
    for (std::size_t b = 0; b < batch; ++b) {
      const double angle = 1000.0 * (static_cast<double>(guidance[b]) - 1.0) * frequency;
      y[b * dim + i] = static_cast<float>(std::sin(angle));
      y[b * dim + half + i] = static_cast<float>(std::cos(angle));
    }
  }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
