// SPDX-License-Identifier: Apache-2.0
// Sums over the rows of a matrix: gradients of biases.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "../core/executor.hpp"
#include "../simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// db[i / rows_per_sum][j] += sum of dy[i][j] over the rows, in order; dy [rows][n]. rows_per_sum = SIZE_MAX: one sum, db [n].
inline void column_sums(const Executor& ex, const float* dy, std::size_t rows, std::size_t n, float* db,
                        std::size_t rows_per_sum = SIZE_MAX) {
  if (rows == 0 || n == 0) return;
  using simd::width;
  constexpr std::size_t strip = 4 * width;
  const std::size_t per_sum = std::min(rows_per_sum, rows), sums = (rows + per_sum - 1) / per_sum,
                    strips = (n + strip - 1) / strip;
  const std::size_t grain = std::max<std::size_t>(1, 64 * 1024 / (per_sum * strip));
  ex.parallel_for(sums * strips, grain, [&](std::size_t begin, std::size_t end, int) {
    for (std::size_t item = begin; item < end; ++item) {
      const std::size_t i0 = item / strips * per_sum, i1 = std::min(rows, i0 + per_sum), j0 = item % strips * strip;
      float* out = db + item / strips * n + j0;
      const float* p = dy + i0 * n + j0;
      if (j0 + strip <= n) {
        simd::Batch acc[4];
        for (std::size_t v = 0; v < 4; ++v) acc[v] = simd::splat(0.0f);
        for (std::size_t i = i0; i < i1; ++i, p += n)
          for (std::size_t v = 0; v < 4; ++v) acc[v] = acc[v] + simd::load(p + v * width);
        for (std::size_t v = 0; v < 4; ++v) simd::store(out + v * width, simd::load(out + v * width) + acc[v]);
      } else {
        float acc[strip] = {};
        for (std::size_t i = i0; i < i1; ++i, p += n)
          for (std::size_t j = 0; j < n - j0; ++j) acc[j] += p[j];
        for (std::size_t j = 0; j < n - j0; ++j) out[j] += acc[j];
      }
    }
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
