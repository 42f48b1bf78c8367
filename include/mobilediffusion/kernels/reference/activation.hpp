// SPDX-License-Identifier: Apache-2.0
// Scalar oracles of the activations.
#pragma once

#include "../../core/begin.hpp"

#include <cmath>
#include <cstddef>

#include "mobilediffusion/core/activation.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference {

inline double activation_value(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1.0 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case Activation::quick_gelu:
      return x / (1.0 + std::exp(-1.702 * x));
    case Activation::relu:
      return x > 0.0 ? x : 0.0;
    case Activation::none:
      break;
  }
  return x;
}

// T: float or double; double is what numerical derivatives are taken of.
template <class T>
void activate(Activation activation, const T* x, T* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<T>(activation_value(activation, static_cast<double>(x[i])));
}

template <class T>
void gate(Activation activation, const T* x, T* y, std::size_t rows, std::size_t hidden) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t i = 0; i < hidden; ++i) {
      const double value = static_cast<double>(x[r * 2 * hidden + i]), g = static_cast<double>(x[r * 2 * hidden + hidden + i]);
      y[r * hidden + i] = static_cast<T>(value * activation_value(activation, g));
    }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference

#include "../../core/end.hpp"
