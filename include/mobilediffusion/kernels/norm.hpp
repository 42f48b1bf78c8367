// SPDX-License-Identifier: Apache-2.0
// Group normalization (with an optional fused SiLU) and layer normalization.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>

#include "mobilediffusion/core/activation.hpp"
#include "mobilediffusion/core/error.hpp"
#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/core/param.hpp"
#include "mobilediffusion/kernels/activation.hpp"
#include "mobilediffusion/kernels/loops.hpp"
#include "mobilediffusion/simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

// Sums over the pixels of a sample are taken in fp32 over chunks and joined in double, always in chunk order. The chunks
// follow from the sizes alone, so the sums do not depend on the threads.
struct PixelChunks {
  static constexpr std::size_t capacity = Executor::scratch_floats / 2;  // per thread for chunk sums; the rest for vectors
  static constexpr std::size_t max_channels = 16384;

  std::size_t pixels, channels, padded, size, count;

  PixelChunks(std::size_t pixels_, std::size_t channels_) : pixels(pixels_), channels(channels_), padded(aligned(channels_)) {
    const std::size_t preferred = std::clamp<std::size_t>(32768 / channels, 16, 256);
    const std::size_t most = capacity / (2 * padded), least_size = (pixels + most - 1) / most;
    size = (std::max(preferred, least_size) + 3) / 4 * 4;
    count = (pixels + size - 1) / size;
  }
  std::size_t begin(std::size_t chunk) const { return chunk * size; }
  std::size_t length(std::size_t chunk) const { return std::min(size, pixels - chunk * size); }
  std::size_t floats() const { return count * 2 * padded; }  // chunk sums of a sample: [count][2][padded]
};

// Runs sums(sample, chunk, out[2][padded], thread), join(sample, sums of all its chunks) and
// write(sample, first chunk, last chunk, thread) for every sample: a sample a thread where that fills the threads, because
// the second pass then finds the sample in cache; otherwise chunks are spread over the threads.
template <class Sums, class Join, class Write>
inline void two_passes(const Executor& ex, std::size_t batch, const PixelChunks& chunks, Sums&& sums, Join&& join,
                       Write&& write) {
  const std::size_t threads = static_cast<std::size_t>(ex.threads()), entry = 2 * chunks.padded;
  const std::size_t sample_floats = chunks.pixels * chunks.channels;
  if (chunks.count == 1 || threads == 1 || batch % threads == 0 || batch >= 4 * threads) {
    ex.parallel_for(batch, grain_for(sample_floats), [&](std::size_t begin, std::size_t end, int thread) {
      float* own = ex.scratch(thread);
      for (std::size_t b = begin; b < end; ++b) {
        for (std::size_t j = 0; j < chunks.count; ++j) sums(b, j, own + j * entry, thread);
        join(b, own);
        write(b, std::size_t{0}, chunks.count, thread);
      }
    });
    return;
  }
  const Executor::Exclusive use(ex);  // the sums stay in its scratch from one loop to the next
  float* shared = ex.scratch(0);
  const std::size_t wave = std::max<std::size_t>(1, PixelChunks::capacity / chunks.floats());
  const std::size_t grain = grain_for(chunks.size * chunks.channels);
  for (std::size_t first = 0; first < batch; first += wave) {
    const std::size_t samples = std::min(wave, batch - first), units = samples * chunks.count;
    use.parallel_for(units, grain, [&](std::size_t begin, std::size_t end, int thread) {
      for (std::size_t u = begin; u < end; ++u) sums(first + u / chunks.count, u % chunks.count, shared + u * entry, thread);
    });
    for (std::size_t b = 0; b < samples; ++b) join(first + b, shared + b * chunks.floats());
    use.parallel_for(units, grain, [&](std::size_t begin, std::size_t end, int thread) {
      for (std::size_t u = begin; u < end;) {
        const std::size_t j = u % chunks.count, last = std::min(chunks.count, j + (end - u));
        write(first + u / chunks.count, j, last, thread);
        u += last - j;
      }
    });
  }
}

// The kernels below stay out of line: one copy each, so that both orders of two_passes run the same instructions.

// One of the tensors whose channels follow each other in what is normalized: [batch][pixels][channels].
struct NormSource {
  const float* x;
  std::size_t channels;
};

// Per channel: sum of d and of d * d over `pixels` rows, d = x - the first row's value. The shift keeps a large common
// offset out of the fp32 sums.
[[gnu::noinline]] inline void shifted_moments(const float* x, std::size_t pixels, std::size_t channels, float* s, float* q) {
  std::fill_n(s, channels, 0.0f);
  std::fill_n(q, channels, 0.0f);
  std::size_t p = 0;
  for (; p + 4 <= pixels; p += 4) {
    const float *x0 = x + p * channels, *x1 = x0 + channels, *x2 = x1 + channels, *x3 = x2 + channels;
    for_vectors(0, channels, [=](auto lanes, std::size_t c) {
      const simd::Batch k = lanes.load(x + c);
      const simd::Batch d0 = lanes.load(x0 + c) - k, d1 = lanes.load(x1 + c) - k;
      const simd::Batch d2 = lanes.load(x2 + c) - k, d3 = lanes.load(x3 + c) - k;
      lanes.store(s + c, lanes.load(s + c) + ((d0 + d1) + (d2 + d3)));
      lanes.store(q + c, lanes.load(q + c) + simd::fma(d0, d0, d1 * d1) + simd::fma(d2, d2, d3 * d3));
    });
  }
  for (; p < pixels; ++p) {
    const float* x0 = x + p * channels;
    for_vectors(0, channels, [=](auto lanes, std::size_t c) {
      const simd::Batch d = lanes.load(x0 + c) - lanes.load(x + c);
      lanes.store(s + c, lanes.load(s + c) + d);
      lanes.store(q + c, simd::fma(d, d, lanes.load(q + c)));
    });
  }
}

// 1 / sqrt(variance + eps); rounding may leave a variance below 0. One that overflowed gives NaN: 0 would hide it in a flat
// result.
template <class T>
T inverse_deviation(T variance, T eps) {
  constexpr T most = static_cast<T>(std::numeric_limits<float>::max());
  if (!(variance <= most)) return std::numeric_limits<T>::quiet_NaN();
  return T{1} / std::sqrt(std::max(T{0}, variance) + eps);
}

// Channels whose sums are joined together, in doubles on the stack.
inline constexpr std::size_t joined_channels = 256;

// Joins the chunk moments of one sample into mean and 1 / std per group.
[[gnu::noinline]] inline void join_moments(const PixelChunks& chunks, std::span<const NormSource> sources, std::size_t sample,
                                           const float* sums, std::size_t groups, float eps, float* statistics) {
  const std::size_t per_group = chunks.channels / groups;
  const double count = static_cast<double>(chunks.pixels * per_group);
  double group_shift = 0.0, a = 0.0, b = 0.0;  // of the group that is being joined; it may reach over blocks and sources
  std::size_t at = 0;                          // channel
  for (const NormSource& source : sources)
    for (std::size_t begin = 0; begin < source.channels; begin += joined_channels) {
      const std::size_t n = std::min(joined_channels, source.channels - begin);
      double shift[joined_channels], first[joined_channels] = {}, second[joined_channels] = {};
      const float* x = source.x + sample * chunks.pixels * source.channels + begin;
      for (std::size_t c = 0; c < n; ++c) {
        if ((at + c) % per_group == 0) group_shift = static_cast<double>(x[c]);
        shift[c] = group_shift;
      }
      for (std::size_t j = 0; j < chunks.count; ++j) {
        const float *s = sums + j * 2 * chunks.padded + at, *q = s + chunks.padded;
        const float* k = x + chunks.begin(j) * source.channels;
        const double length = static_cast<double>(chunks.length(j));
        for (std::size_t c = 0; c < n; ++c) {  // sums of x - k moved to x - shift
          const double d = static_cast<double>(k[c]) - shift[c], sum = static_cast<double>(s[c]);
          first[c] += sum + length * d;
          second[c] += static_cast<double>(q[c]) + d * (2.0 * sum + length * d);
        }
      }
      for (std::size_t c = 0; c < n; ++c, ++at) {
        a += first[c];
        b += second[c];
        if ((at + 1) % per_group != 0) continue;
        const double offset = a / count, variance = b / count - offset * offset;
        *statistics++ = static_cast<float>(shift[c] + offset);
        *statistics++ = static_cast<float>(inverse_deviation(variance, static_cast<double>(eps)));
        a = b = 0.0;
      }
    }
}

// Group normalization as one multiplication and addition a channel: x * scale + shift.
inline void scale_and_shift(std::size_t channels, std::size_t groups, const float* statistics, const float* gamma,
                            const float* beta, float* scale, float* shift) {
  const std::size_t per_group = channels / groups;
  for (std::size_t g = 0, c = 0; g < groups; ++g) {
    const float mean = statistics[2 * g], inverse = statistics[2 * g + 1];
    for (const std::size_t end = c + per_group; c < end; ++c) {
      scale[c] = gamma[c] * inverse;
      shift[c] = std::fma(-mean, scale[c], beta[c]);
    }
  }
}

template <Activation A, bool Stream>
[[gnu::noinline]] inline void scale_pixels(const float* x, float* y, std::size_t y_ld, std::size_t pixels, std::size_t channels,
                                           const float* scale, const float* shift) {
  std::size_t p = 0;
  for (; p + 4 <= pixels; p += 4) {
    const float* in = x + p * channels;
    float* out = y + p * y_ld;
    for_vectors(0, channels, [=](auto lanes, std::size_t c) {
      const simd::Batch a = lanes.load(scale + c), b = lanes.load(shift + c);
      for (std::size_t i = 0; i < 4; ++i) {
        const simd::Batch value = activation_value<A>(simd::fma(lanes.load(in + i * channels + c), a, b));
        if constexpr (Stream) simd::stream(out + i * y_ld + c, value);
        else lanes.store(out + i * y_ld + c, value);
      }
    });
  }
  for (; p < pixels; ++p) {
    const float* in = x + p * channels;
    float* out = y + p * y_ld;
    for_vectors(0, channels, [=](auto lanes, std::size_t c) {
      lanes.store(out + c, activation_value<A>(simd::fma(lanes.load(in + c), lanes.load(scale + c), lanes.load(shift + c))));
    });
  }
}

inline void check_group_norm(std::size_t channels, std::size_t groups, Activation activation) {
  if (groups == 0 || channels == 0 || channels % groups != 0 || channels > PixelChunks::max_channels)
    throw Error("group_norm: channels must be a multiple of groups and at most " + std::to_string(PixelChunks::max_channels) +
                ", found " + std::to_string(channels) + " channels in " + std::to_string(groups) + " groups");
  if (activation != Activation::none && activation != Activation::silu)
    throw Error("group_norm: the fused activation must be none or silu");
}

// The sources' channels as one tensor. y may be the only source.
inline void group_norm_of(const Executor& ex, std::span<const NormSource> sources, float* y, std::size_t batch,
                          std::size_t pixels, std::size_t groups, float eps, const float* gamma, const float* beta,
                          Activation activation, float* statistics) {
  std::size_t channels = 0;
  for (const NormSource& source : sources) channels += source.channels;
  check_group_norm(channels, groups, activation);
  if (batch == 0 || pixels == 0) return;
  bool stream = streams(y, channels, batch * pixels * channels);
  for (const NormSource& source : sources) stream = stream && source.x != y && source.channels % simd::width == 0;
  const PixelChunks chunks(pixels, channels);
  const auto vectors = [&](int thread) { return ex.scratch(thread) + PixelChunks::capacity; };
  const auto sums = [&](std::size_t b, std::size_t j, float* out, int) {
    for (const NormSource& source : sources) {
      shifted_moments(source.x + (b * pixels + chunks.begin(j)) * source.channels, chunks.length(j), source.channels, out,
                      out + chunks.padded);
      out += source.channels;
    }
  };
  const auto join = [&](std::size_t b, const float* all) {
    join_moments(chunks, sources, b, all, groups, eps, statistics + b * groups * 2);
  };
  const auto write = [&](std::size_t b, std::size_t first, std::size_t last, int thread) {
    float *scale = vectors(thread), *shift = scale + chunks.padded;
    scale_and_shift(channels, groups, statistics + b * groups * 2, gamma, beta, scale, shift);
    const std::size_t begin = chunks.begin(first), n = std::min(pixels, chunks.begin(last)) - begin;
    float* out = y + (b * pixels + begin) * channels;
    for (const NormSource& source : sources) {
      const float* in = source.x + (b * pixels + begin) * source.channels;
      constexpr auto silu = Activation::silu, none = Activation::none;
      if (activation == none) scale_pixels<none, false>(in, out, channels, n, source.channels, scale, shift);
      else if (simd::can_stream && stream) scale_pixels<silu, true>(in, out, channels, n, source.channels, scale, shift);
      else scale_pixels<silu, false>(in, out, channels, n, source.channels, scale, shift);
      out += source.channels;
      scale += source.channels;
      shift += source.channels;
    }
    if (stream) simd::stream_end();
  };
  two_passes(ex, batch, chunks, sums, join, write);
}

}  // namespace detail

// y = activation((x - mean) / sqrt(variance + eps) * gamma + beta), mean and (biased) variance of each sample and group over
// pixels and channels / groups channels (Wu and He, arXiv 1803.08494). x, y: [batch][pixels][channels], y may be x; gamma,
// beta: [channels]; statistics: [batch][groups][2], receives mean and 1 / sqrt(variance + eps). activation: none or silu.
// Throws Error when channels is not a multiple of groups or above 16384.
inline void group_norm(const Executor& ex, const float* x, float* y, std::size_t batch, std::size_t pixels, std::size_t channels,
                       std::size_t groups, float eps, const float* gamma, const float* beta, Activation activation,
                       float* statistics) {
  const detail::NormSource source{x, channels};
  detail::group_norm_of(ex, {&source, 1}, y, batch, pixels, groups, eps, gamma, beta, activation, statistics);
}

// The same of a tensor whose channels are those of a [batch][pixels][a_channels], then those of b: a concatenation that is not
// made.
inline void group_norm_joined(const Executor& ex, const float* a, std::size_t a_channels, const float* b, std::size_t b_channels,
                              float* y, std::size_t batch, std::size_t pixels, std::size_t groups, float eps, const float* gamma,
                              const float* beta, Activation activation, float* statistics) {
  const detail::NormSource sources[] = {{a, a_channels}, {b, b_channels}};
  detail::group_norm_of(ex, sources, y, batch, pixels, groups, eps, gamma, beta, activation, statistics);
}

// y = (x - mean) / sqrt(variance + eps) * gamma + beta over the channels of each row (Ba et al., arXiv 1607.06450).
// x, y: [rows][channels], y may be x; statistics: [rows][2], receives mean and 1 / sqrt(variance + eps).
inline void layer_norm(const Executor& ex, const float* x, float* y, std::size_t rows, std::size_t channels, float eps,
                       const float* gamma, const float* beta, float* statistics) {
  if (channels == 0) return;
  const float count = static_cast<float>(channels);
  ex.parallel_for(rows, grain_for(channels), [=](std::size_t begin, std::size_t end, int) {
    constexpr std::size_t w = simd::width;
    for (std::size_t r = begin; r < end; ++r) {
      const float* in = x + r * channels;
      float* out = y + r * channels;
      // Two accumulators hide the latency of the addition; the row stays in cache for the three passes.
      const float origin = in[0];
      simd::Batch s0 = simd::splat(0.0f), s1 = s0;
      const simd::Batch k = simd::splat(origin);
      std::size_t c = 0;
      for (; c + 2 * w <= channels; c += 2 * w) {
        s0 = s0 + (simd::load(in + c) - k);
        s1 = s1 + (simd::load(in + c + w) - k);
      }
      for_vectors(c, channels, [&](auto lanes, std::size_t i) { s0 = s0 + lanes.only(lanes.load(in + i) - k); });
      const float center = origin + simd::sum(s0 + s1) / count;
      // Deviations from the rounded mean, and their sum, which corrects for the rounding.
      const simd::Batch m = simd::splat(center);
      simd::Batch q0 = simd::splat(0.0f), q1 = q0;
      s0 = q0;
      s1 = q0;
      for (c = 0; c + 2 * w <= channels; c += 2 * w) {
        const simd::Batch d0 = simd::load(in + c) - m, d1 = simd::load(in + c + w) - m;
        s0 = s0 + d0;
        s1 = s1 + d1;
        q0 = simd::fma(d0, d0, q0);
        q1 = simd::fma(d1, d1, q1);
      }
      for_vectors(c, channels, [&](auto lanes, std::size_t i) {
        const simd::Batch d = lanes.only(lanes.load(in + i) - m);
        s0 = s0 + d;
        q0 = simd::fma(d, d, q0);
      });
      const float rest = simd::sum(s0 + s1) / count;
      const float variance = simd::sum(q0 + q1) / count - rest * rest;
      const float mean = center + rest, inverse = detail::inverse_deviation(variance, eps);
      statistics[2 * r] = mean;
      statistics[2 * r + 1] = inverse;
      const simd::Batch mean_v = simd::splat(mean), inverse_v = simd::splat(inverse);
      for_vectors(0, channels, [=](auto lanes, std::size_t i) {
        const simd::Batch normal = (lanes.load(in + i) - mean_v) * inverse_v;
        lanes.store(out + i, simd::fma(normal, lanes.load(gamma + i), lanes.load(beta + i)));
      });
    }
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
