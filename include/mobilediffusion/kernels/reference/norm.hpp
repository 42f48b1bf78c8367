// SPDX-License-Identifier: Apache-2.0
// Scalar oracles of group and layer normalization.
#pragma once

#include "../../core/begin.hpp"

#include <cmath>
#include <cstddef>

#include "mobilediffusion/core/activation.hpp"
#include "mobilediffusion/kernels/reference/activation.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference {

// Two passes in double; T: float or double.
template <class T>
void group_norm(const T* x, T* y, std::size_t batch, std::size_t pixels, std::size_t channels, std::size_t groups, double eps,
                const T* gamma, const T* beta, Activation activation, T* statistics) {
  const std::size_t per_group = channels / groups;
  const double count = static_cast<double>(pixels * per_group);
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t g = 0; g < groups; ++g) {
      const auto at = [=](std::size_t p, std::size_t i) { return (b * pixels + p) * channels + g * per_group + i; };
      double mean = 0.0, variance = 0.0;
      for (std::size_t p = 0; p < pixels; ++p)
        for (std::size_t i = 0; i < per_group; ++i) mean += static_cast<double>(x[at(p, i)]);
      mean /= count;
      for (std::size_t p = 0; p < pixels; ++p)
        for (std::size_t i = 0; i < per_group; ++i) variance += std::pow(static_cast<double>(x[at(p, i)]) - mean, 2.0);
      const double inverse = 1.0 / std::sqrt(variance / count + eps);
      statistics[(b * groups + g) * 2] = static_cast<T>(mean);
      statistics[(b * groups + g) * 2 + 1] = static_cast<T>(inverse);
      for (std::size_t p = 0; p < pixels; ++p)
        for (std::size_t i = 0; i < per_group; ++i) {
          const std::size_t c = g * per_group + i;
          const double z = (static_cast<double>(x[at(p, i)]) - mean) * inverse * static_cast<double>(gamma[c]);
          y[at(p, i)] = static_cast<T>(activation_value(activation, z + static_cast<double>(beta[c])));
        }
    }
}

// A row is a sample of one pixel and one group.
template <class T>
void layer_norm(const T* x, T* y, std::size_t rows, std::size_t channels, double eps, const T* gamma, const T* beta,
                T* statistics) {
  group_norm(x, y, rows, 1, channels, 1, eps, gamma, beta, Activation::none, statistics);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference

#include "../../core/end.hpp"
