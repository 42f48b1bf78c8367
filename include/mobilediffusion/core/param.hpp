// SPDX-License-Identifier: Apache-2.0
// The leaf of every weight aggregate: a pointer-sized view whose shape is its type.
#pragma once

#include <array>
#include <cstddef>

namespace mobilediffusion {

// Weights whose first dimension counts outputs (Linear, Conv2d) are packed in place into panels of up to this many
// outputs, so their storage is rounded up to whole panels. 32 = two AVX-512 registers, a multiple of every narrower tile.
inline constexpr std::size_t panel = 32;

// Storage starts on 64-byte boundaries: 16 floats.
inline constexpr std::size_t aligned(std::size_t floats) { return (floats + 15) / 16 * 16; }

namespace detail {
template <std::size_t... Dims>
struct ParamBase {
  static constexpr std::array<std::size_t, sizeof...(Dims)> shape{Dims...};
  static constexpr std::size_t count = (Dims * ... * 1);
  float* data = nullptr;
};
}  // namespace detail

// A vector or table that kernels read as it is: biases, norm scales, embeddings, depthwise filters.
template <std::size_t... Dims>
struct Param : detail::ParamBase<Dims...> {
  static constexpr bool is_matrix = false;
  static constexpr std::size_t storage = aligned(detail::ParamBase<Dims...>::count);
};

// The right-hand side of a matrix product, row-major [Out][In...]: packed once for inference (see kernels/matmul.hpp).
template <std::size_t Out, std::size_t... In>
struct Matrix : detail::ParamBase<Out, In...> {
  static constexpr bool is_matrix = true;
  static constexpr std::size_t rows = Out;
  static constexpr std::size_t columns = (In * ... * 1);
  static constexpr std::size_t storage = (Out + panel - 1) / panel * panel * columns;
};

// A part that the configuration left out: no weights, no code; the visitor skips it.
struct Absent {};

}  // namespace mobilediffusion
