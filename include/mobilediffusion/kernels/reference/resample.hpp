// SPDX-License-Identifier: Apache-2.0
// Scalar oracles of the rearrangements.
#pragma once

#include "../../core/begin.hpp"

#include <cstddef>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference {

template <class T>
void concat_channels(const T* a, std::size_t ca, const T* b, std::size_t cb, T* y, std::size_t rows) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < ca + cb; ++c) y[r * (ca + cb) + c] = c < ca ? a[r * ca + c] : b[r * cb + c - ca];
}

template <class T>
void upsample_nearest2x(const T* x, T* y, std::size_t batch, std::size_t height, std::size_t width, std::size_t channels) {
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t i = 0; i < 2 * height; ++i)
      for (std::size_t j = 0; j < 2 * width; ++j)
        for (std::size_t c = 0; c < channels; ++c)
          y[((b * 2 * height + i) * 2 * width + j) * channels + c] = x[((b * height + i / 2) * width + j / 2) * channels + c];
}

// Written from the output's side: channel k of y is c = k / r^2, dy = k / r % r, dx = k % r.
template <class T>
void pixel_unshuffle(const T* x, T* y, std::size_t batch, std::size_t height, std::size_t width, std::size_t channels,
                     std::size_t r) {
  const std::size_t packed = channels * r * r;
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t i = 0; i < height / r; ++i)
      for (std::size_t j = 0; j < width / r; ++j)
        for (std::size_t k = 0; k < packed; ++k)
          y[((b * (height / r) + i) * (width / r) + j) * packed + k] =
              x[((b * height + i * r + k / r % r) * width + j * r + k % r) * channels + k / (r * r)];
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference

#include "../../core/end.hpp"
