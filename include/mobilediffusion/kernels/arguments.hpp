// SPDX-License-Identifier: Apache-2.0
// What kernels are called with. Nothing here may depend on the instruction set (simd/ is out of reach): these types are the
// same in programs and in kernels that were compiled for another processor.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../core/activation.hpp"
#include "../core/executor.hpp"
#include "../core/param.hpp"
#include "conv_plan.hpp"
#include "operand.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// What is added to a product: C = A B + bias + residual (+ C).
struct Epilogue {
  const float* bias = nullptr;           // vectors of N floats
  std::size_t rows_per_bias = SIZE_MAX;  // row i takes vector i / rows_per_bias: one bias per image
  const float* residual = nullptr;       // [M][residual_ld]
  std::size_t residual_ld = 0;
  bool accumulate = false;  // C += ...
};

// Outputs of so many floats are written past the caches, where a processor can (loops.hpp).
inline constexpr std::size_t stream_floats = std::size_t{4} << 20;

struct AttentionShape {
  std::size_t batch, queries, keys, heads, head_dim;  // head_dim: 1..512
  bool causal = false;                                // query i sees keys 0..i
  AttentionKind kind = AttentionKind::softmax;
  float scale = 1.0f;  // of the scores; usually 1 / sqrt(head_dim)
  bool bf16 = false;   // products of values rounded to bf16, where the processor has them; forward only
};

namespace detail {

// Of rows, whose sums layer_norm_backward takes apart.
inline constexpr std::size_t layer_norm_blocks(std::size_t rows) { return std::clamp<std::size_t>(rows / 16, 1, 64); }

}  // namespace detail

// Floats of the workspace `partial` of layer_norm_backward.
inline constexpr std::size_t layer_norm_partial_floats(std::size_t rows, std::size_t channels) {
  return detail::layer_norm_blocks(rows) * 2 * aligned(channels);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
