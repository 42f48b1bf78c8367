// SPDX-License-Identifier: Apache-2.0
// Convolutions of channels-last images and their gradients, as matrix products over implicit patches.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

#include "../core/error.hpp"
#include "direct_conv.hpp"
#include "matmul.hpp"
#include "winograd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

inline void check(const ConvGeometry& g) {
  const bool sane = g.kernel >= 1 && (g.stride == 1 || (g.stride == 2 && !g.upsample)) && g.pad < g.kernel && g.channels > 0;
  if (!sane)
    throw Error("conv2d: expected stride 1, or stride 2 without upsampling, and pad < kernel; found kernel " +
                std::to_string(g.kernel) + ", stride " + std::to_string(g.stride) + ", pad " + std::to_string(g.pad));
}

// The sums of filter taps that meet one pixel of an upsampled image: w [outputs][kernel][kernel][channels] ->
// [ty][tx][outputs][channels], t = 0 .. kernel, of taps t - 1 and t. The order of Operand::adjoint_patches.
inline void sum_upsampled_taps(const Executor& ex, const float* w, std::size_t outputs, const ConvGeometry& g, float* out) {
  const std::size_t kernel = g.kernel, wide = kernel + 1, n = g.channels;
  ex.parallel_for(wide * wide * outputs, 64, [&](std::size_t begin, std::size_t end, int) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t t = i / outputs, ty = t / wide, tx = t % wide;
      const float* filter = w + i % outputs * kernel * kernel * n;
      float* o = out + i * n;
      bool first = true;
      for (std::size_t ky = ty == 0 ? 0 : ty - 1; ky <= ty && ky < kernel; ++ky)
        for (std::size_t kx = tx == 0 ? 0 : tx - 1; kx <= tx && kx < kernel; ++kx, first = false) {
          const float* p = filter + (ky * kernel + kx) * n;
          if (first)
            for (std::size_t c = 0; c < n; ++c) o[c] = p[c];
          else
            for (std::size_t c = 0; c < n; ++c) o[c] += p[c];
        }
    }
  });
}

}  // namespace detail

// y [batch][out_h][out_w][outputs] = x * w (+ epilogue over rows of out_pixels, outputs columns).
// w: Operand::dense or ::packed of [outputs][kernel][kernel][channels].
inline void conv2d(const Executor& ex, const float* x, const Operand& w, float* y, const ConvGeometry& g,
                   const Epilogue& epilogue = {}) {
  detail::check(g);
  const std::size_t k = g.taps() * g.channels;
  const Operand a = g.pointwise() ? Operand::dense(x, g.out_pixels(), k) : Operand::patches(x, g);
  matmul_nt(ex, g.out_pixels(), w.rows(), k, a, w, y, w.rows(), epilogue);
}
inline void conv2d(const Executor& ex, const float* x, const float* w, std::size_t outputs, float* y, const ConvGeometry& g,
                   const Epilogue& epilogue = {}) {
  conv2d(ex, x, Operand::dense(w, outputs, g.taps() * g.channels), y, g, epilogue);
}

// w [outputs][3][3][channels] into `packed`, whose size Filter::packed tells. The scratch must not overlap either.
inline void pack_filters(const float* w, std::size_t outputs, std::size_t channels, ConvMethod method, Format format,
                         float* packed, float* scratch) {
  if (method == ConvMethod::winograd || (method == ConvMethod::direct && !detail::runs_direct(format))) {
    pack_winograd(w, outputs, channels, format, packed, scratch);
  } else if (method == ConvMethod::phases) {
    // Of an output row of parity 0, tap 0 meets the row above and taps 1 and 2 its own; of parity 1, 0 and 1 its own, 2 the next.
    const auto taps = [](std::size_t parity, std::size_t t) {
      return t == 0 ? std::array<std::size_t, 2>{0, 1 + parity} : std::array<std::size_t, 2>{1 + parity, 3};
    };
    for (std::size_t phase = 0; phase < 4; ++phase) {
      for (std::size_t o = 0; o < outputs; ++o)
        for (std::size_t t = 0; t < 4; ++t) {
          float* out = scratch + (o * 4 + t) * channels;
          std::fill_n(out, channels, 0.0f);
          const auto [y0, y1] = taps(phase / 2, t / 2);
          const auto [x0, x1] = taps(phase % 2, t % 2);
          for (std::size_t ky = y0; ky < y1; ++ky)
            for (std::size_t kx = x0; kx < x1; ++kx)
              for (std::size_t c = 0; c < channels; ++c) out[c] += w[((o * 3 + ky) * 3 + kx) * channels + c];
        }
      pack_weights(scratch, outputs, 4 * channels, packed + phase * packed_floats(outputs, 4 * channels, format), format);
    }
  } else {
    pack_weights(w, outputs, 9 * channels, packed, format);
  }
}

// The same, 3x3, with packed filters. After doubling (ConvMethod::phases) the epilogue may have no residual.
inline void conv2d(const Executor& ex, const float* x, const PackedFilters& w, float* y, const ConvGeometry& g, Epilogue epilogue,
                   float* scratch) {
  detail::check(g);
  const bool one = g.stride == 1 && g.pad == 1 && g.kernel == 3, direct = detail::runs_direct(w.format);
  if (w.method == ConvMethod::direct && direct) {
    if (!one || g.upsample || !detail::fits_direct(g.channels, w.format))
      throw Error("conv2d: expected stride 1, pad 1 and whole words side by side for a direct convolution");
    detail::conv2d_direct(ex, x, w, y, g, epilogue);
  } else if (w.method == ConvMethod::winograd || w.method == ConvMethod::direct) {
    if (g.stride != 1 || g.pad != 1) throw Error("conv2d: expected stride 1 and pad 1 for Winograd's filters");
    conv2d_winograd(ex, x, w, y, g, epilogue, scratch);
  } else if (w.method == ConvMethod::phases) {
    if (!g.upsample || epilogue.residual != nullptr || g.pad != 1 || g.out_h != 2 * g.in_h || g.out_w != 2 * g.in_w)
      throw Error("conv2d: expected an upsampling convolution without a residual for filters packed in phases");
    if (direct && !simd::has_tiles && detail::fits_direct(g.channels, w.format)) {
      detail::conv2d_direct(ex, x, w, y, g, epilogue);
      return;
    }
    const std::size_t k = 4 * g.channels;
    if (epilogue.rows_per_bias != SIZE_MAX) epilogue.rows_per_bias /= 4;
    for (std::size_t phase = 0; phase < 4; ++phase) {
      detail::Output out{y + (phase / 2 * g.out_w + phase % 2) * w.outputs, 2 * w.outputs};
      out.grid_h = g.in_h;
      out.grid_w = g.in_w;
      out.y_step = 2 * g.out_w * w.outputs;
      out.image_step = g.out_h * g.out_w * w.outputs;
      const Operand b = Operand::packed(w.data + phase * packed_floats(w.outputs, k, w.format), w.outputs, k, w.format);
      detail::run(ex, {g.in_pixels(), w.outputs, k, Operand::phase_patches(x, g, phase / 2, phase % 2), b, true, true, out,
                       epilogue, ex.cached_floats()});
    }
  } else {
    conv2d(ex, x, Operand::packed(w.data, w.outputs, g.taps() * g.channels, w.format), y, g, epilogue);
  }
}

// dx [batch][in_h][in_w][channels] (+)= the gradient with respect to x, from dy [batch][out_h][out_w][outputs] and
// w [outputs][kernel][kernel][channels], not packed.
inline void conv2d_backward_input(const Executor& ex, const float* dy, const float* w, std::size_t outputs, float* dx,
                                  const ConvGeometry& g, bool accumulate = false, float* scratch = nullptr) {
  detail::check(g);
  Epilogue epilogue;
  epilogue.accumulate = accumulate;
  if (g.pointwise()) {
    matmul_nn(ex, g.in_pixels(), g.channels, outputs, Operand::dense(dy, g.out_pixels(), outputs),
              Operand::dense(w, outputs, g.channels), dx, g.channels, epilogue);
    return;
  }
  if (g.stride == 2) {  // pixels that meet the same taps together: no product with a zero between strides
    for (const std::size_t y : {0u, 1u})
      for (const std::size_t x : {0u, 1u}) {
        const Operand a = Operand::adjoint_patches(dy, g, outputs, y, x);
        detail::Output out{dx + (y * g.in_w + x) * g.channels, 2 * g.channels};
        out.grid_h = (g.in_h + 1 - y) / 2;
        out.grid_w = (g.in_w + 1 - x) / 2;
        out.y_step = 2 * g.in_w * g.channels;
        out.image_step = g.in_h * g.in_w * g.channels;
        detail::run(ex, {a.rows(), g.channels, a.columns(), a, Operand::transposed_filters(w, g, outputs, y, x), true, false, out,
                         epilogue, ex.cached_floats()});
      }
    return;
  }
  const Operand a = Operand::adjoint_patches(dy, g, outputs);
  if (g.upsample) {
    if (scratch == nullptr) throw Error("conv2d_backward_input: expected scratch for an upsampling convolution, found none");
    detail::sum_upsampled_taps(ex, w, outputs, g, scratch);
    matmul_nn(ex, g.in_pixels(), g.channels, a.columns(), a, Operand::dense(scratch, a.columns(), g.channels), dx, g.channels,
              epilogue);
    return;
  }
  matmul_nn(ex, g.in_pixels(), g.channels, a.columns(), a, Operand::transposed_filters(w, g, outputs), dx, g.channels, epilogue);
}

// dw [outputs][kernel][kernel][channels] += the gradient with respect to w.
inline void conv2d_backward_filter(const Executor& ex, const float* x, const float* dy, std::size_t outputs, float* dw,
                                   const ConvGeometry& g) {
  detail::check(g);
  const std::size_t n = g.taps() * g.channels;
  Epilogue epilogue;
  epilogue.accumulate = true;
  const Operand b = g.pointwise() ? Operand::dense(x, g.out_pixels(), n) : Operand::patches(x, g);
  matmul_tn(ex, outputs, n, g.out_pixels(), Operand::dense(dy, g.out_pixels(), outputs), b, dw, n, epilogue);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
