// SPDX-License-Identifier: Apache-2.0
// How far a decoded picture is from the original, in value and in edges, and the gradient of it.
#pragma once

#include "../core/begin.hpp"

#include <cmath>
#include <cstddef>
#include <vector>

#include "../core/executor.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

// Weights of the absolute error, of the absolute error of the differences between neighbours, and of the squared error.
struct ReconstructionWeights {
  float absolute = 1.0f, edges = 0.5f, squared = 0.3f;
};
struct ReconstructionSums {  // over all values
  double loss = 0, squared = 0;
};

// x, y: `batch` pictures [Height][Width][3], the originals and what was decoded. dy, as long, is assigned the gradient of the
// loss's mean over the values of `pictures` pictures, of which these are a part.
template <std::size_t Height, std::size_t Width>
ReconstructionSums reconstruction_loss(const Executor& ex, const ReconstructionWeights& weights, const float* x, const float* y,
                                       std::size_t batch, std::size_t pictures, float* dy) {
  constexpr std::size_t row = Width * 3, picture = Height * row;
  const float unit = 1.0f / static_cast<float>(pictures * picture);
  std::vector<ReconstructionSums> sums(batch);
  ex.parallel_for(batch, 1, [&](std::size_t begin, std::size_t end, int) {
    const auto sign = [](float v) { return v > 0 ? 1.0f : v < 0 ? -1.0f : 0.0f; };
    for (std::size_t b = begin; b < end; ++b) {
      const float *xb = x + b * picture, *yb = y + b * picture;
      float* d = dy + b * picture;
      double sum1 = 0, sum2 = 0, sum_edges = 0;
      for (std::size_t i = 0; i < picture; ++i) {
        const float e = yb[i] - xb[i];
        sum1 += static_cast<double>(std::fabs(e));
        sum2 += static_cast<double>(e * e);
        d[i] = unit * (weights.absolute * sign(e) + 2.0f * weights.squared * e);
      }
      const auto edge = [&](std::size_t i, std::size_t j) {
        const float e = (yb[j] - xb[j]) - (yb[i] - xb[i]), g = unit * weights.edges * sign(e);
        sum_edges += static_cast<double>(std::fabs(e));
        d[j] += g;
        d[i] -= g;
      };
      for (std::size_t i = 0; i < Height; ++i)
        for (std::size_t j = 0; j + 3 < row; ++j) edge(i * row + j, i * row + j + 3);
      for (std::size_t i = 0; i + 1 < Height; ++i)
        for (std::size_t j = 0; j < row; ++j) edge(i * row + j, (i + 1) * row + j);
      sums[b] = {static_cast<double>(weights.absolute) * sum1 + static_cast<double>(weights.squared) * sum2 +
                     static_cast<double>(weights.edges) * sum_edges,
                 sum2};
    }
  });
  ReconstructionSums all;
  for (const ReconstructionSums& s : sums) all.loss += s.loss, all.squared += s.squared;
  return all;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
