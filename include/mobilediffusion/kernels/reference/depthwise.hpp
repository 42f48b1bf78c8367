// SPDX-License-Identifier: Apache-2.0
// Scalar oracle of the depthwise 3x3 convolution.
#pragma once

#include "../../core/begin.hpp"

#include <cstddef>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference {

// T: float or double; bias may be null.
template <class T>
void depthwise_conv3x3(const T* x, const T* w, const T* bias, T* y, std::size_t batch, std::size_t height, std::size_t width,
                       std::size_t channels, std::size_t stride) {
  const std::size_t out_height = (height + 2 - 3) / stride + 1, out_width = (width + 2 - 3) / stride + 1;
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t oy = 0; oy < out_height; ++oy)
      for (std::size_t ox = 0; ox < out_width; ++ox)
        for (std::size_t c = 0; c < channels; ++c) {
          double sum = bias != nullptr ? static_cast<double>(bias[c]) : 0.0;
          for (std::size_t tap = 0; tap < 9; ++tap) {
            const std::size_t iy = oy * stride + tap / 3, ix = ox * stride + tap % 3;  // with the padding
            if (iy < 1 || iy > height || ix < 1 || ix > width) continue;
            sum += static_cast<double>(w[tap * channels + c]) *
                   static_cast<double>(x[((b * height + iy - 1) * width + ix - 1) * channels + c]);
          }
          y[((b * out_height + oy) * out_width + ox) * channels + c] = static_cast<T>(sum);
        }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference

#include "../../core/end.hpp"
