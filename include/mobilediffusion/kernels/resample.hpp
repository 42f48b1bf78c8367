// SPDX-License-Identifier: Apache-2.0
// Rearrangements: channel concatenation, nearest up-sampling, pixels to channels and back.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <cstring>
#include <string>

#include "mobilediffusion/core/error.hpp"
#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/kernels/loops.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// y[r] = a[r] then b[r]. a: [rows][ca], b: [rows][cb], y: [rows][ca + cb].
inline void concat_channels(const Executor& ex, const float* a, std::size_t ca, const float* b, std::size_t cb, float* y,
                            std::size_t rows) {
  ex.parallel_for(rows, grain_for(ca + cb), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t r = begin; r < end; ++r) {
      float* out = y + r * (ca + cb);
      std::memcpy(out, a + r * ca, ca * sizeof(float));
      std::memcpy(out + ca, b + r * cb, cb * sizeof(float));
    }
  });
}

// y[2i + {0, 1}][2j + {0, 1}] = x[i][j]. x: [batch][height][width][channels], y: [batch][2 height][2 width][channels].
inline void upsample_nearest2x(const Executor& ex, const float* x, float* y, std::size_t batch, std::size_t height,
                               std::size_t width, std::size_t channels) {
  const std::size_t out_row = 2 * width * channels, bytes = channels * sizeof(float);
  ex.parallel_for(batch * height, grain_for(2 * out_row), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t row = begin; row < end; ++row) {
      float* out = y + row * 2 * out_row;
      for (std::size_t j = 0; j < width; ++j) {
        const float* in = x + (row * width + j) * channels;
        std::memcpy(out + 2 * j * channels, in, bytes);
        std::memcpy(out + (2 * j + 1) * channels, in, bytes);
      }
      std::memcpy(out + out_row, out, out_row * sizeof(float));
    }
  });
}

namespace detail {

// f(index in [height][width][channels], index in [height / r][width / r][channels * r * r]) for every element.
template <class F>
inline void unshuffle_pairs(const Executor& ex, std::size_t batch, std::size_t height, std::size_t width, std::size_t channels,
                            std::size_t r, F&& f) {
  if (r == 0 || height % r != 0 || width % r != 0)
    throw Error("pixel_unshuffle: height and width must be multiples of the factor, found " + std::to_string(height) + "x" +
                std::to_string(width) + " and " + std::to_string(r));
  ex.parallel_for(batch * (height / r), grain_for(r * width * channels), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t row = begin; row < end; ++row)
      for (std::size_t i = 0; i < width / r; ++i) {
        const std::size_t to = (row * (width / r) + i) * channels * r * r;
        for (std::size_t dy = 0; dy < r; ++dy)
          for (std::size_t dx = 0; dx < r; ++dx)
            for (std::size_t c = 0; c < channels; ++c)
              f(((row * r + dy) * width + i * r + dx) * channels + c, to + (c * r + dy) * r + dx);
      }
  });
}

}  // namespace detail

// y[i][j][c * r * r + dy * r + dx] = x[i * r + dy][j * r + dx][c]: torch.nn.PixelUnshuffle. x: [batch][height][width][channels],
// y: [batch][height / r][width / r][channels * r * r]. Throws Error unless r divides height and width.
// It is the gradient of pixel_shuffle, and the other way round.
inline void pixel_unshuffle(const Executor& ex, const float* x, float* y, std::size_t batch, std::size_t height,
                            std::size_t width, std::size_t channels, std::size_t r) {
  detail::unshuffle_pairs(ex, batch, height, width, channels, r,
                          [=](std::size_t image, std::size_t packed) { y[packed] = x[image]; });
}

// The inverse: x: [batch][height / r][width / r][channels * r * r], y: [batch][height][width][channels]; the sizes are y's.
inline void pixel_shuffle(const Executor& ex, const float* x, float* y, std::size_t batch, std::size_t height, std::size_t width,
                          std::size_t channels, std::size_t r) {
  detail::unshuffle_pairs(ex, batch, height, width, channels, r,
                          [=](std::size_t image, std::size_t packed) { y[image] = x[packed]; });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
