// SPDX-License-Identifier: Apache-2.0
// The oracle of kernels/conv2d.hpp: the definition of a convolution and its gradients, scalar loops.
#pragma once

#include "../../core/begin.hpp"

#include <cstddef>
#include <vector>

#include "../operand.hpp"
#include "matmul.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference {

namespace detail {
// f(output pixel, tap, input pixel) for all that meet.
template <class F>
void for_each_tap(const ConvGeometry& g, F f) {
  const long h = static_cast<long>(g.in_h), w = static_cast<long>(g.in_w), scale = g.upsample ? 2 : 1;
  for (std::size_t b = 0; b < g.batch; ++b)
    for (std::size_t oy = 0; oy < g.out_h; ++oy)
      for (std::size_t ox = 0; ox < g.out_w; ++ox)
        for (std::size_t ky = 0; ky < g.kernel; ++ky)
          for (std::size_t kx = 0; kx < g.kernel; ++kx) {
            const long y = static_cast<long>(oy * g.stride + ky) - static_cast<long>(g.pad);
            const long x = static_cast<long>(ox * g.stride + kx) - static_cast<long>(g.pad);
            if (y < 0 || x < 0 || y >= h * scale || x >= w * scale) continue;
            f((b * g.out_h + oy) * g.out_w + ox, ky * g.kernel + kx,
              (b * g.in_h + static_cast<std::size_t>(y / scale)) * g.in_w + static_cast<std::size_t>(x / scale));
          }
}
}  // namespace detail

inline void conv2d(const float* x, const float* w, std::size_t outputs, float* y, const ConvGeometry& g, const Epilogue& e = {}) {
  std::vector<double> sums(g.out_pixels() * outputs);
  detail::for_each_tap(g, [&](std::size_t out, std::size_t tap, std::size_t in) {
    for (std::size_t o = 0; o < outputs; ++o)
      for (std::size_t c = 0; c < g.channels; ++c)
        sums[out * outputs + o] += static_cast<double>(x[in * g.channels + c]) * w[(o * g.taps() + tap) * g.channels + c];
  });
  for (std::size_t i = 0; i < g.out_pixels(); ++i)
    for (std::size_t o = 0; o < outputs; ++o) detail::finish(outputs, i, o, sums[i * outputs + o], y, outputs, e);
}

inline void conv2d_backward_input(const float* dy, const float* w, std::size_t outputs, float* dx, const ConvGeometry& g,
                                  bool accumulate = false) {
  std::vector<double> sums(g.in_pixels() * g.channels);
  detail::for_each_tap(g, [&](std::size_t out, std::size_t tap, std::size_t in) {
    for (std::size_t o = 0; o < outputs; ++o)
      for (std::size_t c = 0; c < g.channels; ++c)
        sums[in * g.channels + c] += static_cast<double>(dy[out * outputs + o]) * w[(o * g.taps() + tap) * g.channels + c];
  });
  for (std::size_t i = 0; i < sums.size(); ++i) dx[i] = static_cast<float>(sums[i] + (accumulate ? dx[i] : 0.0f));
}

inline void conv2d_backward_filter(const float* x, const float* dy, std::size_t outputs, float* dw, const ConvGeometry& g) {
  std::vector<double> sums(outputs * g.taps() * g.channels);
  detail::for_each_tap(g, [&](std::size_t out, std::size_t tap, std::size_t in) {
    for (std::size_t o = 0; o < outputs; ++o)
      for (std::size_t c = 0; c < g.channels; ++c)
        sums[(o * g.taps() + tap) * g.channels + c] += static_cast<double>(dy[out * outputs + o]) * x[in * g.channels + c];
  });
  for (std::size_t i = 0; i < sums.size(); ++i) dw[i] += static_cast<float>(sums[i]);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference

#include "../../core/end.hpp"
