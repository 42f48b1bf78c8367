// SPDX-License-Identifier: Apache-2.0
// Depthwise 3x3 convolution, padding 1, stride 1 or 2, channels-last.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <string>

#include "mobilediffusion/core/error.hpp"
#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/core/param.hpp"
#include "mobilediffusion/kernels/loops.hpp"
#include "mobilediffusion/simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// Rows (or columns) of the output of a 3x3 convolution with padding 1.
inline constexpr std::size_t conv3x3_output(std::size_t size, std::size_t stride) { return (size - 1) / stride + 1; }

namespace detail {

inline void check_depthwise(std::size_t channels, std::size_t stride) {
  if (stride != 1 && stride != 2) throw Error("depthwise_conv3x3: stride must be 1 or 2, found " + std::to_string(stride));
  if (channels > Executor::scratch_floats) throw Error("depthwise_conv3x3: too many channels, found " + std::to_string(channels));
}

// A row of zeros stands for every pixel of the padding, so that no loop knows about borders.
inline const float* zero_pixel(const Executor& ex, int thread, std::size_t channels) {
  float* zeros = ex.scratch(thread);
  std::fill(zeros, zeros + channels, 0.0f);
  return zeros;
}

// The pixels under `Count` neighbouring outputs: pixel[row][column], each [channels].
template <std::size_t Stride, std::size_t Count>
struct Window {
  static constexpr std::size_t columns = (Count - 1) * Stride + 3;
  const float* pixel[3][columns];

  // image: [height][width][channels]; oy, ox: the first output.
  Window(const float* image, const float* zeros, std::size_t height, std::size_t width, std::size_t channels, std::size_t oy,
         std::size_t ox) {
    for (std::size_t ky = 0; ky < 3; ++ky) {
      const std::size_t iy = oy * Stride + ky;  // one more than the row, which may be -1
      for (std::size_t k = 0; k < columns; ++k) {
        const std::size_t ix = ox * Stride + k;
        const bool inside = iy >= 1 && iy <= height && ix >= 1 && ix <= width;
        pixel[ky][k] = inside ? image + ((iy - 1) * width + ix - 1) * channels : zeros;
      }
    }
  }
};

// Count outputs side by side: each pixel vector is loaded once for all the outputs it reaches. Flip turns the filter by
// 180 degrees: with stride 1 that is the gradient with respect to the input.
template <std::size_t Stride, std::size_t Count, bool Flip>
inline void depthwise_outputs(const Window<Stride, Count>& window, const float* w, const float* bias, float* y,
                              std::size_t channels) {
  for_vectors(0, channels, [&](auto lanes, std::size_t c) {
    simd::Batch sums[Count];
    const simd::Batch start = bias != nullptr ? lanes.load(bias + c) : simd::splat(0.0f);
#pragma GCC unroll 4
    for (std::size_t i = 0; i < Count; ++i) sums[i] = start;
#pragma GCC unroll 3
    for (std::size_t ky = 0; ky < 3; ++ky) {
      simd::Batch filter[3];
#pragma GCC unroll 3
      for (std::size_t kx = 0; kx < 3; ++kx) filter[kx] = lanes.load(w + (Flip ? 8 - (3 * ky + kx) : 3 * ky + kx) * channels + c);
#pragma GCC unroll 9
      for (std::size_t k = 0; k < Window<Stride, Count>::columns; ++k) {
        const simd::Batch in = lanes.load(window.pixel[ky][k] + c);
#pragma GCC unroll 4
        for (std::size_t i = 0; i < Count; ++i)
          if (k >= i * Stride && k < i * Stride + 3) sums[i] = simd::fma(in, filter[k - i * Stride], sums[i]);
      }
    }
#pragma GCC unroll 4
    for (std::size_t i = 0; i < Count; ++i) lanes.store(y + i * channels + c, sums[i]);
  });
}

template <std::size_t Stride, bool Flip>
inline void depthwise_rows(const Executor& ex, const float* x, const float* w, const float* bias, float* y, std::size_t batch,
                           std::size_t height, std::size_t width, std::size_t channels) {
  const std::size_t out_height = conv3x3_output(height, Stride), out_width = conv3x3_output(width, Stride);
  ex.parallel_for(batch * out_height, grain_for(out_width * channels), [=, &ex](std::size_t begin, std::size_t end, int thread) {
    const float* zeros = zero_pixel(ex, thread, channels);
    for (std::size_t row = begin; row < end; ++row) {
      const std::size_t oy = row % out_height;
      const float* image = x + row / out_height * height * width * channels;
      float* out = y + row * out_width * channels;
      std::size_t ox = 0;
      const auto block = [&]<std::size_t Count>() {
        for (; ox + Count <= out_width; ox += Count)
          depthwise_outputs<Stride, Count, Flip>(Window<Stride, Count>(image, zeros, height, width, channels, oy, ox), w, bias,
                                                 out + ox * channels, channels);
      };
      block.template operator()<4>();
      block.template operator()<2>();
      block.template operator()<1>();
    }
  });
}

}  // namespace detail

// y[o] = bias + sum over taps of w[tap] * x[o * stride + tap - 1], zeros outside, each channel on its own.
// x: [batch][height][width][channels]; w: [9][channels], taps row by row; bias: [channels] or null;
// y: [batch][conv3x3_output(height)][conv3x3_output(width)][channels], not x. Throws Error unless stride is 1 or 2.
inline void depthwise_conv3x3(const Executor& ex, const float* x, const float* w, const float* bias, float* y, std::size_t batch,
                              std::size_t height, std::size_t width, std::size_t channels, std::size_t stride) {
  detail::check_depthwise(channels, stride);
  if (batch == 0 || height == 0 || width == 0) return;
  if (stride == 1) detail::depthwise_rows<1, false>(ex, x, w, bias, y, batch, height, width, channels);
  else detail::depthwise_rows<2, false>(ex, x, w, bias, y, batch, height, width, channels);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
