// SPDX-License-Identifier: Apache-2.0
// Scalar oracles of the embeddings.
#pragma once

#include "../../core/begin.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference {

template <class T>
void embed_tokens(const std::int32_t* ids, std::size_t batch, std::size_t length, const T* table, const T* positions, T* y,
                  std::size_t width) {
  for (std::size_t row = 0; row < batch * length; ++row)
    for (std::size_t c = 0; c < width; ++c) {
      const double position = positions != nullptr ? static_cast<double>(positions[row % length * width + c]) : 0.0;
      y[row * width + c] = static_cast<T>(static_cast<double>(table[static_cast<std::size_t>(ids[row]) * width + c]) + position);
    }
}

template <class T>
void timestep_embedding(const T* t, std::size_t batch, std::size_t dim, T* y) {
  const std::size_t half = dim / 2;
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t i = 0; i < dim; ++i) {
      const double angle =
          static_cast<double>(t[b]) * std::pow(10000.0, -static_cast<double>(i % half) / static_cast<double>(half));
      y[b * dim + i] = i >= 2 * half ? T(0) : static_cast<T>(i < half ? std::cos(angle) : std::sin(angle));
    }
}

template <class T>
void guidance_embedding(const T* guidance, std::size_t batch, std::size_t dim, T* y) {
  const std::size_t half = dim / 2;
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t i = 0; i < dim; ++i) {
      const double angle = 1000.0 * (static_cast<double>(guidance[b]) - 1.0) *
                           std::pow(10000.0, -static_cast<double>(i % half) / static_cast<double>(half - 1));
      y[b * dim + i] = static_cast<T>(i < half ? std::sin(angle) : std::cos(angle));
    }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference

#include "../../core/end.hpp"
