// SPDX-License-Identifier: Apache-2.0
// Gradients of activations and of the gate.
#pragma once

#include "../../core/begin.hpp"

#include <cstddef>

#include "mobilediffusion/core/activation.hpp"
#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/kernels/activation.hpp"
#include "mobilediffusion/kernels/loops.hpp"
#include "mobilediffusion/simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// dy times the derivative at x; for the logistic s: (x s)' = s (1 + x (1 - s)). relu has slope 0 at 0.
template <Activation A>
inline simd::Batch activation_gradient(simd::Batch x, simd::Batch dy) {
  using simd::splat;
  if constexpr (A == Activation::silu) {
    const simd::Batch s = simd::sigmoid(x);
    return dy * s * simd::fma(x, splat(1.0f) - s, splat(1.0f));
  } else if constexpr (A == Activation::quick_gelu) {
    const simd::Batch u = splat(1.702f) * x, s = simd::sigmoid(u);
    return dy * s * simd::fma(u, splat(1.0f) - s, splat(1.0f));
  } else if constexpr (A == Activation::gelu) {
    const simd::Batch cdf = simd::fma(splat(0.5f), simd::erf(splat(0.70710678f) * x), splat(0.5f));
    const simd::Batch pdf = splat(0.39894228f) * simd::exp(splat(-0.5f) * x * x);
    return dy * simd::fma(x, pdf, cdf);
  } else if constexpr (A == Activation::relu) return simd::where_positive(x, dy);
  else return dy;
}

// dx = dy * activation'(x); all [n]; dx may be dy.
inline void activate_backward(const Executor& ex, Activation activation, const float* x, const float* dy, float* dx,
                              std::size_t n) {
  with_activation(activation, [&]<Activation A>() {
    parallel_elements(ex, n, 8192, [=](std::size_t begin, std::size_t end, int) {
      for_vectors(begin, end, [=](auto lanes, std::size_t i) {
        lanes.store(dx + i, activation_gradient<A>(lanes.load(x + i), lanes.load(dy + i)));
      });
    });
  });
}

// dvalue = dy * activation(gate), dgate = dy * value * activation'(gate); x, dx: [rows][2 * hidden], dy: [rows][hidden].
inline void gate_backward(const Executor& ex, Activation activation, const float* x, const float* dy, float* dx, std::size_t rows,
                          std::size_t hidden) {
  with_activation(activation, [&]<Activation A>() {
    ex.parallel_for(rows, grain_for(4 * hidden), [=](std::size_t begin, std::size_t end, int) {
      for (std::size_t r = begin; r < end; ++r) {
        const float* in = x + r * 2 * hidden;
        const float* d = dy + r * hidden;
        float* out = dx + r * 2 * hidden;
        for_vectors(0, hidden, [=](auto lanes, std::size_t i) {
          const simd::Batch value = lanes.load(in + i), g = lanes.load(in + hidden + i), up = lanes.load(d + i);
          lanes.store(out + i, up * activation_value<A>(g));
          lanes.store(out + hidden + i, activation_gradient<A>(g, up * value));
        });
      }
    });
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../../core/end.hpp"
