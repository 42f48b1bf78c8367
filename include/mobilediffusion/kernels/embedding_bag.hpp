// SPDX-License-Identifier: Apache-2.0
// torch.nn.EmbeddingBag in mode sum: y[b] = sum of table[ids[b][t]] over the tokens that are not padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mobilediffusion::kernels {

// ids [batch][length], table [vocabulary][width] -> y [batch][width]
inline void embedding_bag(const std::int32_t* ids, std::size_t batch, std::size_t length, const float* table, std::size_t width,
                          std::int32_t padding, float* y) {
  for (std::size_t b = 0; b < batch; ++b) {
    float* row = y + b * width;
    std::memset(row, 0, width * sizeof(float));
    for (std::size_t t = 0; t < length; ++t) {
      const std::int32_t id = ids[b * length + t];
      if (id == padding) continue;
      const float* e = table + static_cast<std::size_t>(id) * width;
      for (std::size_t i = 0; i < width; ++i) row[i] += e[i];
    }
  }
}

// d_table += the adjoint.
inline void embedding_bag_backward(const std::int32_t* ids, std::size_t batch, std::size_t length, const float* dy,
                                   std::size_t width, std::int32_t padding, float* d_table) {
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t t = 0; t < length; ++t) {
      const std::int32_t id = ids[b * length + t];
      if (id == padding) continue;
      float* e = d_table + static_cast<std::size_t>(id) * width;
      for (std::size_t i = 0; i < width; ++i) e[i] += dy[b * width + i];
    }
}

}  // namespace mobilediffusion::kernels
