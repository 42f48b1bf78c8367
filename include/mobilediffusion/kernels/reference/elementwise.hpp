// SPDX-License-Identifier: Apache-2.0
// Scalar oracles of the element-wise functions.
#pragma once

#include "../../core/begin.hpp"

#include <cstddef>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference {

template <class T>
void scale_add(const T* a, double fa, const T* b, double fb, T* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<T>(fa * static_cast<double>(a[i]) + fb * static_cast<double>(b[i]));
}

template <class T>
void add_row_vector(const T* x, const T* v, T* y, std::size_t batch, std::size_t pixels, std::size_t channels) {
  for (std::size_t i = 0; i < batch * pixels * channels; ++i)
    y[i] = static_cast<T>(static_cast<double>(x[i]) + static_cast<double>(v[i / (pixels * channels) * channels + i % channels]));
}

template <class T>
void sum_pixels(const T* dy, std::size_t batch, std::size_t pixels, std::size_t channels, T* out) {
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t c = 0; c < channels; ++c) {
      double sum = 0.0;
      for (std::size_t p = 0; p < pixels; ++p) sum += static_cast<double>(dy[(b * pixels + p) * channels + c]);
      out[b * channels + c] = static_cast<T>(sum);
    }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference

#include "../../core/end.hpp"
