// SPDX-License-Identifier: Apache-2.0
// Gradients of the rearrangements: their adjoints. Those of pixel_unshuffle and pixel_shuffle are each other.
#pragma once

#include "../../core/begin.hpp"

#include <cstddef>
#include <cstring>

#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/kernels/loops.hpp"
#include "mobilediffusion/kernels/resample.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// da and db are assigned their channels of dy. da: [rows][ca], db: [rows][cb], dy: [rows][ca + cb].
inline void split_channels_backward(const Executor& ex, const float* dy, float* da, std::size_t ca, float* db, std::size_t cb,
                                    std::size_t rows) {
  ex.parallel_for(rows, grain_for(ca + cb), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t r = begin; r < end; ++r) {
      const float* in = dy + r * (ca + cb);
      std::memcpy(da + r * ca, in, ca * sizeof(float));
      std::memcpy(db + r * cb, in + ca, cb * sizeof(float));
    }
  });
}

// dx[i][j] = the sum of the four dy it was copied to (assigned). dy: [batch][2 height][2 width][channels],
// dx: [batch][height][width][channels].
inline void upsample_nearest2x_backward(const Executor& ex, const float* dy, float* dx, std::size_t batch, std::size_t height,
                                        std::size_t width, std::size_t channels) {
  const std::size_t in_row = 2 * width * channels;
  ex.parallel_for(batch * height, grain_for(2 * in_row), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t row = begin; row < end; ++row)
      for (std::size_t j = 0; j < width; ++j) {
        const float *upper = dy + row * 2 * in_row + 2 * j * channels, *lower = upper + in_row;
        float* out = dx + (row * width + j) * channels;
        for_vectors(0, channels, [=](auto lanes, std::size_t c) {
          lanes.store(out + c, (lanes.load(upper + c) + lanes.load(upper + channels + c)) +
                                   (lanes.load(lower + c) + lanes.load(lower + channels + c)));
        });
      }
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../../core/end.hpp"
