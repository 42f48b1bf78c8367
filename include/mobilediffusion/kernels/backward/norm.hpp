// SPDX-License-Identifier: Apache-2.0
// Gradients of group and layer normalization.
#pragma once

#include "../../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "mobilediffusion/core/activation.hpp"
#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/core/param.hpp"
#include "mobilediffusion/kernels/arguments.hpp"
#include "mobilediffusion/kernels/backward/activation.hpp"
#include "mobilediffusion/kernels/loops.hpp"
#include "mobilediffusion/kernels/norm.hpp"
#include "mobilediffusion/simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

// Per-channel vectors of one sample, each [padded]. With dz the gradient before the activation:
// dx = dz * p + (x - mean) * q + r.
struct GroupGradientVectors {
  const float *scale, *shift, *mean, *p, *q, *r;
};

// Per channel: sums of dz and of dz * (x - mean) over the pixels. dz, when given, receives the gradient before the activation.
template <Activation A>
[[gnu::noinline]] inline void gradient_sums(const float* x, const float* dy, float* dz, std::size_t pixels, std::size_t channels,
                                            const GroupGradientVectors& v, float* s, float* t) {
  for_vectors(0, channels, [=](auto, std::size_t c) {
    simd::store(s + c, simd::splat(0.0f));
    simd::store(t + c, simd::splat(0.0f));
  });
  const float *scale = v.scale, *shift = v.shift, *mean = v.mean;
  const auto rows = [=](std::size_t p, auto count) {
    for_vectors(0, channels, [=](auto lanes, std::size_t c) {
      const simd::Batch m = simd::load(mean + c);
      simd::Batch s_c = simd::load(s + c), t_c = simd::load(t + c);
      for (std::size_t i = 0; i < count(); ++i) {
        const std::size_t at = (p + i) * channels + c;
        const simd::Batch in = lanes.load(x + at);
        simd::Batch d = lanes.load(dy + at);
        if constexpr (A != Activation::none) {
          d = activation_gradient<A>(simd::fma(in, simd::load(scale + c), simd::load(shift + c)), d);
          if (dz != nullptr) lanes.store(dz + at, d);
        }
        s_c = s_c + d;
        t_c = simd::fma(d, in - m, t_c);
      }
      simd::store(s + c, s_c);
      simd::store(t + c, t_c);
    });
  };
  std::size_t p = 0;
  for (; p + 4 <= pixels; p += 4) rows(p, [] { return std::size_t{4}; });
  for (; p < pixels; ++p) rows(p, [] { return std::size_t{1}; });
}

// dx = or += dz * p + (x - mean) * q + r; A: the activation that dy still has to be taken through, none when dy is dz.
template <Activation A, bool Accumulate>
[[gnu::noinline]] inline void gradient_pixels(const float* x, const float* dy, float* dx, std::size_t pixels,
                                              std::size_t channels, const GroupGradientVectors& v) {
  const float *scale = v.scale, *shift = v.shift, *mean = v.mean, *vp = v.p, *vq = v.q, *vr = v.r;
  const auto rows = [=](std::size_t pixel, auto count) {
    for_vectors(0, channels, [=](auto lanes, std::size_t c) {
      const simd::Batch m = simd::load(mean + c), p = simd::load(vp + c), q = simd::load(vq + c), r = simd::load(vr + c);
      for (std::size_t i = 0; i < count(); ++i) {
        const std::size_t at = (pixel + i) * channels + c;
        const simd::Batch in = lanes.load(x + at);
        simd::Batch d = lanes.load(dy + at);
        if constexpr (A != Activation::none)
          d = activation_gradient<A>(simd::fma(in, simd::load(scale + c), simd::load(shift + c)), d);
        simd::Batch out = simd::fma(d, p, simd::fma(in - m, q, r));
        if constexpr (Accumulate) out = out + lanes.load(dx + at);
        lanes.store(dx + at, out);
      }
    });
  };
  std::size_t p = 0;
  for (; p + 4 <= pixels; p += 4) rows(p, [] { return std::size_t{4}; });
  for (; p < pixels; ++p) rows(p, [] { return std::size_t{1}; });
}

// Chunk sums of one sample into its share of dgamma and dbeta: out [2][channels].
[[gnu::noinline]] inline void join_gradient_sums(const PixelChunks& chunks, const float* sums, std::size_t groups,
                                                 const float* statistics, float* out) {
  const std::size_t channels = chunks.channels, per_group = channels / groups;
  for (std::size_t begin = 0; begin < channels; begin += joined_channels) {
    const std::size_t n = std::min(joined_channels, channels - begin);
    double scaled[joined_channels] = {}, plain[joined_channels] = {};
    for (std::size_t j = 0; j < chunks.count; ++j) {
      const float *s = sums + j * 2 * chunks.padded + begin, *t = s + chunks.padded;
      for (std::size_t c = 0; c < n; ++c) {
        scaled[c] += static_cast<double>(t[c]);
        plain[c] += static_cast<double>(s[c]);
      }
    }
    for (std::size_t c = 0; c < n; ++c) {
      const double inverse = static_cast<double>(statistics[2 * ((begin + c) / per_group) + 1]);
      out[begin + c] = static_cast<float>(scaled[c] * inverse);
      out[channels + begin + c] = static_cast<float>(plain[c]);
    }
  }
}

// out[i] += sum over n of parts[n][i], in that order and in double; parts: n rows of `size` floats, `stride` apart; out: [size].
// The parts come from other cores' caches: long runs of each keep that a matter of bandwidth.
inline void add_parts(const Executor& ex, const float* parts, std::size_t n, std::size_t stride, std::size_t size, float* out) {
  constexpr std::size_t block = 512;
  ex.parallel_for((size + block - 1) / block, grain_for(block * n / 4), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t first = begin * block; first < std::min(size, end * block); first += block) {
      const std::size_t count = std::min(block, size - first);
      double sums[block] = {};
      for (std::size_t k = 0; k < n; ++k)
        for (std::size_t i = 0; i < count; ++i) sums[i] += static_cast<double>(parts[k * stride + first + i]);
      for (std::size_t i = 0; i < count; ++i) out[first + i] += static_cast<float>(sums[i]);
    }
  });
}

}  // namespace detail

// Gradients of group_norm, from its input and the statistics it wrote. x, dy, dx: [batch][pixels][channels]; dx is assigned,
// or added to when accumulate is true; dx may be dy when it is assigned. dgamma, dbeta: [channels], added to.
// partial: workspace of batch * 2 * channels floats. Errors as group_norm.
// With n = pixels * channels / groups, h = (x - mean) / std and dz = dy * activation'(h * gamma + beta):
// dx = (gamma dz - (sum gamma dz + h sum gamma dz h) / n) / std, the sums over the group.
inline void group_norm_backward(const Executor& ex, const float* x, const float* dy, float* dx, bool accumulate,
                                std::size_t batch, std::size_t pixels, std::size_t channels, std::size_t groups,
                                const float* gamma, const float* beta, Activation activation, const float* statistics,
                                float* dgamma, float* dbeta, float* partial) {
  detail::check_group_norm(channels, groups, activation);
  if (batch == 0 || pixels == 0) return;
  const detail::PixelChunks chunks(pixels, channels);
  const std::size_t sample = pixels * channels, padded = chunks.padded, per_group = channels / groups;
  const bool silu = activation == Activation::silu;
  // Memory of one thread behind the chunk sums: six vectors, the sample they belong to being the one last prepared.
  const auto vectors = [&](int thread) { return ex.scratch(thread) + detail::PixelChunks::capacity; };
  const auto view = [&](int thread) {
    const float* v = vectors(thread);
    return detail::GroupGradientVectors{v, v + padded, v + 2 * padded, v + 3 * padded, v + 4 * padded, v + 5 * padded};
  };
  const auto prepare = [&](std::size_t b, int thread) {
    float *scale = vectors(thread), *mean = scale + 2 * padded;
    const float* own = statistics + b * groups * 2;
    detail::scale_and_shift(channels, groups, own, gamma, beta, scale, scale + padded);
    for (std::size_t g = 0; g < groups; ++g) std::fill_n(mean + g * per_group, per_group, own[2 * g]);
  };
  const auto sums = [&](std::size_t b, std::size_t j, float* out, int thread) {
    prepare(b, thread);
    const std::size_t at = b * sample + chunks.begin(j) * channels;
    float* dz = accumulate ? nullptr : dx + at;
    if (silu)
      detail::gradient_sums<Activation::silu>(x + at, dy + at, dz, chunks.length(j), channels, view(thread), out, out + padded);
    else
      detail::gradient_sums<Activation::none>(x + at, dy + at, nullptr, chunks.length(j), channels, view(thread), out,
                                              out + padded);
  };
  const auto join = [&](std::size_t b, const float* all) {
    detail::join_gradient_sums(chunks, all, groups, statistics + b * groups * 2, partial + b * 2 * channels);
  };
  const auto write = [&](std::size_t b, std::size_t first, std::size_t last, int thread) {
    prepare(b, thread);
    float *p = vectors(thread) + 3 * padded, *q = p + padded, *r = q + padded;
    const float *scaled = partial + b * 2 * channels, *plain = scaled + channels;
    const double count = static_cast<double>(pixels * per_group);
    for (std::size_t g = 0; g < groups; ++g) {
      double a = 0.0, h = 0.0;
      for (std::size_t c = g * per_group; c < (g + 1) * per_group; ++c) {
        a += static_cast<double>(gamma[c]) * static_cast<double>(plain[c]);
        h += static_cast<double>(gamma[c]) * static_cast<double>(scaled[c]);
      }
      const double inverse = static_cast<double>(statistics[(b * groups + g) * 2 + 1]);
      for (std::size_t c = g * per_group; c < (g + 1) * per_group; ++c) {
        p[c] = static_cast<float>(inverse * static_cast<double>(gamma[c]));
        q[c] = static_cast<float>(-inverse * inverse * h / count);
        r[c] = static_cast<float>(-inverse * a / count);
      }
    }
    const std::size_t begin = chunks.begin(first), n = std::min(pixels, chunks.begin(last)) - begin;
    const std::size_t at = b * sample + begin * channels;
    if (accumulate && silu) detail::gradient_pixels<Activation::silu, true>(x + at, dy + at, dx + at, n, channels, view(thread));
    else if (accumulate) detail::gradient_pixels<Activation::none, true>(x + at, dy + at, dx + at, n, channels, view(thread));
    else  // the first pass left dz in dx
      detail::gradient_pixels<Activation::none, false>(x + at, (silu ? dx : dy) + at, dx + at, n, channels, view(thread));
  };
  detail::two_passes(ex, batch, chunks, sums, join, write);
  detail::add_parts(ex, partial, batch, 2 * channels, channels, dgamma);
  detail::add_parts(ex, partial + channels, batch, 2 * channels, channels, dbeta);
}

// Gradients of layer_norm, from its input and the statistics it wrote. x, dy, dx: [rows][channels]; dx is assigned, or added
// to when accumulate is true; dx may be dy when it is assigned. dgamma, dbeta: [channels], added to.
// partial: workspace of layer_norm_partial_floats(rows, channels) floats.
// dx = (gamma dy - (sum gamma dy + h sum gamma dy h) / channels) / std with h = (x - mean) / std.
inline void layer_norm_backward(const Executor& ex, const float* x, const float* dy, float* dx, bool accumulate, std::size_t rows,
                                std::size_t channels, const float* gamma, const float* statistics, float* dgamma, float* dbeta,
                                float* partial) {
  if (rows == 0 || channels == 0) return;
  const std::size_t blocks = detail::layer_norm_blocks(rows), padded = aligned(channels);
  ex.parallel_for(blocks, grain_for((rows + blocks - 1) / blocks * channels), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t block = begin; block < end; ++block) {
      float *gamma_sum = partial + block * 2 * padded, *beta_sum = gamma_sum + padded;
      std::fill(gamma_sum, gamma_sum + 2 * padded, 0.0f);
      for (std::size_t r = rows * block / blocks; r < rows * (block + 1) / blocks; ++r) {
        const float *in = x + r * channels, *up = dy + r * channels;
        float* out = dx + r * channels;
        const simd::Batch mean = simd::splat(statistics[2 * r]), inverse = simd::splat(statistics[2 * r + 1]);
        simd::Batch a = simd::splat(0.0f), b = a;
        for_vectors(0, channels, [&](auto lanes, std::size_t c) {
          const simd::Batch d = lanes.load(up + c), g = d * lanes.load(gamma + c);
          const simd::Batch dh = (lanes.load(in + c) - mean) * inverse;
          simd::store(gamma_sum + c, simd::fma(d, dh, simd::load(gamma_sum + c)));
          simd::store(beta_sum + c, simd::load(beta_sum + c) + d);
          a = a + g;
          b = simd::fma(g, dh, b);
        });
        const float scale = 1.0f / static_cast<float>(channels);
        const simd::Batch a_mean = simd::splat(simd::sum(a) * scale), b_mean = simd::splat(simd::sum(b) * scale);
        for_vectors(0, channels, [=](auto lanes, std::size_t c) {
          const simd::Batch h = (lanes.load(in + c) - mean) * inverse;
          const simd::Batch g = lanes.load(up + c) * lanes.load(gamma + c) - a_mean;
          simd::Batch d = inverse * (g - h * b_mean);
          if (accumulate) d = d + lanes.load(out + c);
          lanes.store(out + c, d);
        });
      }
    }
  });
  detail::add_parts(ex, partial, blocks, 2 * padded, channels, dgamma);
  detail::add_parts(ex, partial + padded, blocks, 2 * padded, channels, dbeta);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../../core/end.hpp"
