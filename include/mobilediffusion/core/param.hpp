// SPDX-License-Identifier: Apache-2.0
// The leaves of every weight aggregate: pointer-sized views whose shape, storage and file layout are their type.
#pragma once

#include <array>
#include <cstddef>

namespace mobilediffusion {

// Right-hand sides of matrix products are packed in place into panels of up to this many outputs, so their storage is
// rounded up to whole panels. 32 = two AVX-512 registers, a multiple of every narrower tile.
inline constexpr std::size_t panel = 32;

// Storage starts on 64-byte boundaries: 16 floats.
inline constexpr std::size_t aligned(std::size_t floats) { return (floats + 15) / 16 * 16; }

// A vector or table that kernels read as it is: biases, norm scales, embeddings.
// Every leaf says: count (parameters), storage (floats reserved), file_shape (PyTorch's), and how the file's order becomes
// the memory's: [outer][inner][taps] -> [outer][taps][inner].
template <std::size_t... Dims>
struct Param {
  static constexpr bool is_matrix = false;
  static constexpr std::array<std::size_t, sizeof...(Dims)> file_shape{Dims...};
  static constexpr std::size_t count = (Dims * ... * 1), storage = aligned(count);
  static constexpr std::size_t outer = count, inner = 1, taps = 1;
  float* data = nullptr;
};

// Linear weights [Out][In]; packed once for inference (kernels/matmul.hpp).
template <std::size_t Out, std::size_t In>
struct Matrix {
  static constexpr bool is_matrix = true;
  static constexpr std::array<std::size_t, 2> file_shape{Out, In};
  static constexpr std::size_t rows = Out, columns = In, count = Out * In;
  static constexpr std::size_t storage = (Out + panel - 1) / panel * panel * In;
  static constexpr std::size_t outer = Out * In, inner = 1, taps = 1;
  float* data = nullptr;
};

// Convolution filters: [Out][In][K][K] in files, [Out][K][K][In] in memory, so that a tap is a contiguous run of channels.
template <std::size_t Out, std::size_t In, std::size_t K>
struct Filter {
  static constexpr bool is_matrix = true;
  static constexpr std::array<std::size_t, 4> file_shape{Out, In, K, K};
  static constexpr std::size_t rows = Out, columns = K * K * In, count = rows * columns;
  static constexpr std::size_t storage = (Out + panel - 1) / panel * panel * columns;
  static constexpr std::size_t outer = Out, inner = In, taps = K * K;
  float* data = nullptr;
};

// Depthwise filters: [C][1][K][K] in files, [K][K][C] in memory.
template <std::size_t C, std::size_t K>
struct DepthwiseFilter {
  static constexpr bool is_matrix = false;
  static constexpr std::array<std::size_t, 4> file_shape{C, 1, K, K};
  static constexpr std::size_t count = C * K * K, storage = aligned(count);
  static constexpr std::size_t outer = 1, inner = C, taps = K * K;
  float* data = nullptr;
};

// A part that the configuration left out: no weights, no code; the visitor skips it.
struct Absent {};

}  // namespace mobilediffusion
