// SPDX-License-Identifier: Apache-2.0
// Gradients of the depthwise 3x3 convolution. height and width are the input's, as in the forward function.
#pragma once

#include "../../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/core/param.hpp"
#include "mobilediffusion/kernels/backward/norm.hpp"
#include "mobilediffusion/kernels/depthwise.hpp"
#include "mobilediffusion/kernels/loops.hpp"
#include "mobilediffusion/simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

// Stride 2: the filter rows (or columns) that input index i met, and the outputs they led to. Even indices met the middle
// tap of output i / 2; odd ones tap 2 of output (i - 1) / 2 and tap 0 of the next.
struct Stride2Taps {
  std::size_t count = 0, tap[2] = {}, output[2] = {};
  Stride2Taps(std::size_t i, std::size_t outputs) {
    if (i % 2 == 0) {
      add(1, i / 2, outputs);
    } else {
      add(2, i / 2, outputs);
      add(0, i / 2 + 1, outputs);
    }
  }
  void add(std::size_t t, std::size_t o, std::size_t outputs) {
    if (o >= outputs) return;
    tap[count] = t;
    output[count++] = o;
  }
};

template <std::size_t Terms>
inline void weighted_pixels(const float* const* pixel, const float* const* w, float* y, std::size_t channels) {
  for_vectors(0, channels, [=](auto lanes, std::size_t c) {
    simd::Batch sum = lanes.load(pixel[0] + c) * lanes.load(w[0] + c);
    for (std::size_t k = 1; k < Terms; ++k) sum = simd::fma(lanes.load(pixel[k] + c), lanes.load(w[k] + c), sum);
    lanes.store(y + c, sum);
  });
}

// Adds Count neighbouring outputs to the tap sums: sums [10][channels], nine taps and the bias.
template <std::size_t Stride, std::size_t Count>
inline void depthwise_tap_sums(const Window<Stride, Count>& window, const float* dy, float* sums, std::size_t channels,
                               std::size_t first, std::size_t last) {
  for_vectors(first, last, [&](auto lanes, std::size_t c) {
    simd::Batch d[Count];
    simd::Batch total = lanes.load(sums + 9 * channels + c);
    for (std::size_t i = 0; i < Count; ++i) {
      d[i] = lanes.load(dy + i * channels + c);
      total = total + d[i];
    }
    lanes.store(sums + 9 * channels + c, total);
    for (std::size_t ky = 0; ky < 3; ++ky) {
      simd::Batch tap[3];
      for (std::size_t kx = 0; kx < 3; ++kx) tap[kx] = lanes.load(sums + (3 * ky + kx) * channels + c);
      for (std::size_t k = 0; k < Window<Stride, Count>::columns; ++k) {
        const simd::Batch in = lanes.load(window.pixel[ky][k] + c);
        for (std::size_t i = 0; i < Count; ++i)
          if (k >= i * Stride && k < i * Stride + 3) tap[k - i * Stride] = simd::fma(in, d[i], tap[k - i * Stride]);
      }
      for (std::size_t kx = 0; kx < 3; ++kx) lanes.store(sums + (3 * ky + kx) * channels + c, tap[kx]);
    }
  });
}

template <std::size_t Stride>
inline void depthwise_filter_sums(const Executor& ex, const float* x, const float* dy, std::size_t batch, std::size_t height,
                                  std::size_t width, std::size_t channels, float* partial) {
  const std::size_t out_height = conv3x3_output(height, Stride), out_width = conv3x3_output(width, Stride);
  const std::size_t threads = static_cast<std::size_t>(ex.threads());
  // A sample a thread, or blocks of channels where the samples do not fill the threads; channels never mix.
  const std::size_t wide = (channels + 63) / 64 * 64, step = batch % threads == 0 || batch >= 4 * threads ? wide : 64;
  const std::size_t blocks = wide / step;
  ex.parallel_for(
      batch * blocks, grain_for(out_height * out_width * step), [=, &ex](std::size_t begin, std::size_t end, int thread) {
        const float* zeros = zero_pixel(ex, thread, channels);
        for (std::size_t unit = begin; unit < end; ++unit) {
          const std::size_t b = unit / blocks, first = unit % blocks * step, last = std::min(channels, first + step);
          const float *image = x + b * height * width * channels, *up = dy + b * out_height * out_width * channels;
          float* sums = partial + b * 10 * channels;
          for (std::size_t tap = 0; tap < 10; ++tap) std::fill(sums + tap * channels + first, sums + tap * channels + last, 0.0f);
          for (std::size_t oy = 0; oy < out_height; ++oy) {
            std::size_t ox = 0;
            const auto block = [&]<std::size_t Count>() {
              for (; ox + Count <= out_width; ox += Count)
                depthwise_tap_sums<Stride, Count>(Window<Stride, Count>(image, zeros, height, width, channels, oy, ox),
                                                  up + (oy * out_width + ox) * channels, sums, channels, first, last);
            };
            block.template operator()<4>();
            block.template operator()<2>();
            block.template operator()<1>();
          }
        }
      });
}

inline void depthwise_input_stride2(const Executor& ex, const float* dy, const float* w, float* dx, std::size_t batch,
                                    std::size_t height, std::size_t width, std::size_t channels) {
  const std::size_t out_height = conv3x3_output(height, 2), out_width = conv3x3_output(width, 2);
  ex.parallel_for(batch * height, grain_for(width * channels), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t row = begin; row < end; ++row) {
      const Stride2Taps rows(row % height, out_height);
      const float* image = dy + row / height * out_height * out_width * channels;
      for (std::size_t ix = 0; ix < width; ++ix) {
        const Stride2Taps columns(ix, out_width);
        const float *pixel[4] = {}, *taps[4] = {};
        std::size_t terms = 0;
        for (std::size_t i = 0; i < rows.count; ++i)
          for (std::size_t j = 0; j < columns.count; ++j, ++terms) {
            pixel[terms] = image + (rows.output[i] * out_width + columns.output[j]) * channels;
            taps[terms] = w + (3 * rows.tap[i] + columns.tap[j]) * channels;
          }
        float* out = dx + (row * width + ix) * channels;
        if (terms == 4) weighted_pixels<4>(pixel, taps, out, channels);
        else if (terms == 2) weighted_pixels<2>(pixel, taps, out, channels);
        else weighted_pixels<1>(pixel, taps, out, channels);
      }
    }
  });
}

}  // namespace detail

// dx = the adjoint of depthwise_conv3x3 applied to dy (assigned). dy: as the forward's y; w: [9][channels];
// dx: [batch][height][width][channels], not dy.
inline void depthwise_conv3x3_backward_input(const Executor& ex, const float* dy, const float* w, float* dx, std::size_t batch,
                                             std::size_t height, std::size_t width, std::size_t channels, std::size_t stride) {
  detail::check_depthwise(channels, stride);
  if (batch == 0 || height == 0 || width == 0) return;
  if (stride == 1) detail::depthwise_rows<1, true>(ex, dy, w, nullptr, dx, batch, height, width, channels);
  else detail::depthwise_input_stride2(ex, dy, w, dx, batch, height, width, channels);
}

// dw[tap] += sum over outputs of dy[o] * x[o * stride + tap - 1]; db += sum of dy. x, dy: as in the forward; dw: [9][channels];
// db: [channels] or null; partial: workspace of batch * 10 * channels floats.
inline void depthwise_conv3x3_backward_filter(const Executor& ex, const float* x, const float* dy, float* dw, float* db,
                                              std::size_t batch, std::size_t height, std::size_t width, std::size_t channels,
                                              std::size_t stride, float* partial) {
  detail::check_depthwise(channels, stride);
  if (batch == 0 || height == 0 || width == 0) return;
  if (stride == 1) detail::depthwise_filter_sums<1>(ex, x, dy, batch, height, width, channels, partial);
  else detail::depthwise_filter_sums<2>(ex, x, dy, batch, height, width, channels, partial);
  detail::add_parts(ex, partial, batch, 10 * channels, 9 * channels, dw);
  if (db != nullptr) detail::add_parts(ex, partial + 9 * channels, batch, 10 * channels, channels, db);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../../core/end.hpp"
