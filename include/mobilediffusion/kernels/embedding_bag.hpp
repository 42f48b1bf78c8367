// SPDX-License-Identifier: Apache-2.0
// torch.nn.EmbeddingBag in mode sum with weights by place: y[b][k] = sum of weights[k][t] table[ids[b][t]] over the tokens that
// are not padding.
#pragma once

#include "../core/begin.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numbers>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// The first `count` cosines (DCT-II) over `length` places: weights [count][length]. The first is 1 everywhere.
inline void cosine_weights(std::size_t count, std::size_t length, float* weights) {
  for (std::size_t k = 0; k < count; ++k)
    for (std::size_t t = 0; t < length; ++t)
      weights[k * length + t] = static_cast<float>(
          std::cos(std::numbers::pi * static_cast<double>(k) * (static_cast<double>(t) + 0.5) / static_cast<double>(length)));
}

// ids [batch][length], table [vocabulary][width], weights [sums][length] -> y [batch][sums][width]
inline void embedding_bag(const std::int32_t* ids, std::size_t batch, std::size_t length, const float* table, std::size_t width,
                          std::int32_t padding, const float* weights, std::size_t sums, float* y) {
  std::memset(y, 0, batch * sums * width * sizeof(float));
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t t = 0; t < length; ++t) {
      const std::int32_t id = ids[b * length + t];
      if (id == padding) continue;
      const float* e = table + static_cast<std::size_t>(id) * width;
      for (std::size_t k = 0; k < sums; ++k) {
        float* row = y + (b * sums + k) * width;
        for (std::size_t i = 0; i < width; ++i) row[i] += weights[k * length + t] * e[i];
      }
    }
}

// d_table += the adjoint.
inline void embedding_bag_backward(const std::int32_t* ids, std::size_t batch, std::size_t length, const float* dy,
                                   std::size_t width, std::int32_t padding, const float* weights, std::size_t sums,
                                   float* d_table) {
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t t = 0; t < length; ++t) {
      const std::int32_t id = ids[b * length + t];
      if (id == padding) continue;
      float* e = d_table + static_cast<std::size_t>(id) * width;
      for (std::size_t k = 0; k < sums; ++k) {
        const float* row = dy + (b * sums + k) * width;
        for (std::size_t i = 0; i < width; ++i) e[i] += weights[k * length + t] * row[i];
      }
    }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
