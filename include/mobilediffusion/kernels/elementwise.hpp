// SPDX-License-Identifier: Apache-2.0
// Sums and scalings of whole arrays, and vectors broadcast over pixels.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/core/param.hpp"
#include "mobilediffusion/kernels/loops.hpp"
#include "mobilediffusion/simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// y = a + b; all [n]; y may be a or b.
inline void add(const Executor& ex, const float* a, const float* b, float* y, std::size_t n) {
  parallel_elements(ex, n, 16384, [=](std::size_t begin, std::size_t end, int) {
    for_vectors(begin, end, [=](auto lanes, std::size_t i) { lanes.store(y + i, lanes.load(a + i) + lanes.load(b + i)); });
  });
}

// y += x; all [n].
inline void add_to(const Executor& ex, const float* x, float* y, std::size_t n) { add(ex, y, x, y, n); }

// y = factor * x; all [n]; y may be x.
inline void scale(const Executor& ex, const float* x, float factor, float* y, std::size_t n) {
  parallel_elements(ex, n, 16384, [=](std::size_t begin, std::size_t end, int) {
    const simd::Batch f = simd::splat(factor);
    for_vectors(begin, end, [=](auto lanes, std::size_t i) { lanes.store(y + i, f * lanes.load(x + i)); });
  });
}

// y = fa * a + fb * b; all [n]; y may be a or b.
inline void scale_add(const Executor& ex, const float* a, float fa, const float* b, float fb, float* y, std::size_t n) {
  parallel_elements(ex, n, 16384, [=](std::size_t begin, std::size_t end, int) {
    const simd::Batch va = simd::splat(fa), vb = simd::splat(fb);
    for_vectors(begin, end,
                [=](auto lanes, std::size_t i) { lanes.store(y + i, simd::fma(va, lanes.load(a + i), vb * lanes.load(b + i))); });
  });
}

// y[b][p] = x[b][p] + v[b]; x, y: [batch][pixels][channels], y may be x; v: [batch][channels].
inline void add_row_vector(const Executor& ex, const float* x, const float* v, float* y, std::size_t batch, std::size_t pixels,
                           std::size_t channels) {
  ex.parallel_for(batch * pixels, grain_for(channels), [=](std::size_t begin, std::size_t end, int) {
    for (std::size_t row = begin; row < end; ++row) {
      const float *in = x + row * channels, *add = v + row / pixels * channels;
      float* out = y + row * channels;
      for_vectors(0, channels,
                  [=](auto lanes, std::size_t c) { lanes.store(out + c, lanes.load(in + c) + lanes.load(add + c)); });
    }
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
