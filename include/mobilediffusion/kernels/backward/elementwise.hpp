// SPDX-License-Identifier: Apache-2.0
// Gradients of what elementwise.hpp broadcasts.
#pragma once

#include "../../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/kernels/elementwise.hpp"
#include "mobilediffusion/kernels/loops.hpp"
#include "mobilediffusion/simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// out[b] = sum over p of dy[b][p]: the gradient of add_row_vector with respect to its vector. dy: [batch][pixels][channels];
// out: [batch][channels], assigned.
inline void sum_pixels(const Executor& ex, const float* dy, std::size_t batch, std::size_t pixels, std::size_t channels,
                       float* out) {
  constexpr std::size_t chunk = 128;  // summed apart before they join the total: a long fp32 sum would lose digits
  constexpr std::size_t block = 64;   // channels a unit of work
  const std::size_t blocks = (channels + block - 1) / block;
  ex.parallel_for(batch * blocks, grain_for(pixels * block), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t unit = begin; unit < end; ++unit) {
      const std::size_t first = unit % blocks * block, last = std::min(channels, first + block), b = unit / blocks;
      float* total = out + b * channels;
      std::fill(total + first, total + last, 0.0f);
      for (std::size_t p = 0; p < pixels; p += chunk) {
        const std::size_t count = std::min(chunk, pixels - p);
        const float* in = dy + (b * pixels + p) * channels;
        for_vectors(first, last, [=](auto lanes, std::size_t c) {
          simd::Batch s0 = simd::splat(0.0f), s1 = s0;
          std::size_t k = 0;
          for (; k + 2 <= count; k += 2) {
            s0 = s0 + lanes.load(in + k * channels + c);
            s1 = s1 + lanes.load(in + (k + 1) * channels + c);
          }
          if (k < count) s0 = s0 + lanes.load(in + k * channels + c);
          lanes.store(total + c, lanes.load(total + c) + (s0 + s1));
        });
      }
    }
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../../core/end.hpp"
