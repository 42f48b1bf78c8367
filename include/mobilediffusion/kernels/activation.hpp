// SPDX-License-Identifier: Apache-2.0
// Element-wise activations and the gate of gated feed-forwards.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>

#include "mobilediffusion/core/activation.hpp"
#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/kernels/loops.hpp"
#include "mobilediffusion/simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// silu: x s(x); quick_gelu: x s(1.702 x); gelu: x (1 + erf(x / sqrt 2)) / 2; relu: max(x, 0), with s the logistic function.
template <Activation A>
inline simd::Batch activation_value(simd::Batch x) {
  using simd::splat;
  if constexpr (A == Activation::silu) return x * simd::sigmoid(x);
  else if constexpr (A == Activation::quick_gelu) return x * simd::sigmoid(splat(1.702f) * x);
  else if constexpr (A == Activation::gelu) {
    const simd::Batch half = splat(0.5f) * x;
    return simd::fma(half, simd::erf(splat(0.70710678f) * x), half);
  } else if constexpr (A == Activation::relu) return simd::max(x, splat(0.0f));
  else return x;
}

// Calls f.operator()<A>() with the run-time activation as a template argument.
template <class F>
inline void with_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::silu:
      f.template operator()<Activation::silu>();
      break;
    case Activation::gelu:
      f.template operator()<Activation::gelu>();
      break;
    case Activation::quick_gelu:
      f.template operator()<Activation::quick_gelu>();
      break;
    case Activation::relu:
      f.template operator()<Activation::relu>();
      break;
    case Activation::none:
      f.template operator()<Activation::none>();
      break;
  }
}

// y = activation(x); x, y: [n], y may be x.
inline void activate(const Executor& ex, Activation activation, const float* x, float* y, std::size_t n) {
  with_activation(activation, [&]<Activation A>() {
    parallel_elements(ex, n, 8192, [=](std::size_t begin, std::size_t end, int) {
      for_vectors(begin, end, [=](auto lanes, std::size_t i) { lanes.store(y + i, activation_value<A>(lanes.load(x + i))); });
    });
  });
}

// y[r] = value[r] * activation(gate[r]); x: [rows][2 * hidden], the value then the gate (diffusers' GEGLU); y: [rows][hidden].
inline void gate(const Executor& ex, Activation activation, const float* x, float* y, std::size_t rows, std::size_t hidden) {
  with_activation(activation, [&]<Activation A>() {
    ex.parallel_for(rows, grain_for(2 * hidden), [=](std::size_t begin, std::size_t end, int) {
      for (std::size_t r = begin; r < end; ++r) {
        const float* value = x + r * 2 * hidden;
        float* out = y + r * hidden;
        for_vectors(0, hidden, [=](auto lanes, std::size_t i) {
          lanes.store(out + i, lanes.load(value + i) * activation_value<A>(lanes.load(value + hidden + i)));
        });
      }
    });
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
