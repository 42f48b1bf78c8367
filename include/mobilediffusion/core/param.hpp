// SPDX-License-Identifier: Apache-2.0
// The leaves of every weight aggregate: pointer-sized views whose shape, storage and file layout are their type.
#pragma once

#include "begin.hpp"

#include <array>
#include <cstddef>

#include "number_formats.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Right-hand sides of matrix products are packed for inference into whole panels of this many outputs: two AVX-512 registers, a
// multiple of every narrower tile.
inline constexpr std::size_t panel = 32;
// 32-bit words of K that a product takes at once: a panel of its left side stays in the first-level cache meanwhile. In int8 each
// block of a row has its own range.
inline constexpr std::size_t block_depth = 512;

// Storage starts on 64-byte boundaries: 16 floats.
inline constexpr std::size_t aligned(std::size_t floats) { return (floats + 15) / 16 * 16; }

// The format of a matrix in a model of this format: few outputs or short sums gain nothing from 8 bits and lose most.
inline constexpr Format format_of_matrix(std::size_t rows, std::size_t columns, Format model) {
  return model == Format::int8 && (rows < panel || columns < 128) ? Format::bf16 : model;
}

// 32-bit words of K that a panel of packed weights holds for an output; of more than one value an even number, since some
// instruction sets keep two together.
inline constexpr std::size_t packed_words(std::size_t columns, Format format) {
  if (format == Format::fp32) return columns;
  return format == Format::bf16 ? (columns + 3) / 4 * 2 : (columns + 7) / 8 * 2;
}

// Floats of a matrix packed in a format (kernels/packed_weights.hpp), whatever the instruction set's tile.
inline constexpr std::size_t packed_floats(std::size_t rows, std::size_t columns, Format format) {
  const std::size_t outputs = (rows + panel - 1) / panel * panel, words = packed_words(columns, format);
  if (format != Format::int8) return outputs * words;
  return outputs * (1 + (words + block_depth - 1) / block_depth + words);
}

// How a 3x3 convolution is computed once its filters are packed.
enum class ConvMethod {
  patches,   // one product over patches of 9 taps
  phases,    // of a doubled image: four products over 4 taps, one for each parity of the output's rows and columns
  winograd,  // minimal filtering: 36 products over tiles of 4x4 outputs in fp32, 16 over tiles of 2x2 in other formats
  direct,    // patches that are not copied, bf16 and int8; by winograd where the processor has no dot products of the format
};

// Outputs along a side of Winograd's tiles. Larger tiles multiply less and lose digits: F(4x4) would make the rounding of bf16
// ten times as large, F(2x2) not twice.
inline constexpr std::size_t winograd_tile(Format format) { return format == Format::fp32 ? 4 : 2; }
inline constexpr std::size_t winograd_points(Format format) { return format == Format::fp32 ? 36 : 16; }

// A vector or table that kernels read as it is: biases, norm scales, embeddings.
// Every leaf says: count (parameters), storage (floats reserved), packed(format) (floats reserved in inference), file_shape
// (PyTorch's), and how the file's order becomes the memory's: [outer][inner][taps] -> [outer][taps][inner].
template <std::size_t... Dims>
struct Param {
  static constexpr bool is_matrix = false;
  static constexpr std::array<std::size_t, sizeof...(Dims)> file_shape{Dims...};
  static constexpr std::size_t count = (Dims * ... * 1), storage = aligned(count);
  static constexpr std::size_t packed(Format) { return storage; }
  static constexpr std::size_t outer = count, inner = 1, taps = 1;
  float* data = nullptr;
};

// Linear weights [Out][In]; packed once for inference (kernels/matmul.hpp).
template <std::size_t Out, std::size_t In>
struct Matrix {
  static constexpr bool is_matrix = true;
  static constexpr std::array<std::size_t, 2> file_shape{Out, In};
  static constexpr ConvMethod method(Format) { return ConvMethod::patches; }
  static constexpr Format format(Format model) { return format_of_matrix(Out, In, model); }
  static constexpr std::size_t rows = Out, columns = In, count = Out * In, storage = aligned(count);
  static constexpr std::size_t packed(Format f) { return packed_floats(Out, In, format(f)); }
  static constexpr std::size_t outer = Out * In, inner = 1, taps = 1;
  float* data = nullptr;
};

// Convolution filters: [Out][In][K][K] in files, [Out][K][K][In] in memory, so that a tap is a contiguous run of channels.
// Fp32, Bf16, Int8: how it is computed in inference, by the model's format.
template <std::size_t Out, std::size_t In, std::size_t K, ConvMethod Fp32 = ConvMethod::patches, ConvMethod Bf16 = Fp32,
          ConvMethod Int8 = Bf16>
struct Filter {
  static constexpr bool is_matrix = true;
  static constexpr std::array<std::size_t, 4> file_shape{Out, In, K, K};
  static constexpr ConvMethod method(Format model) { return model == Format::fp32 ? Fp32 : model == Format::bf16 ? Bf16 : Int8; }
  // Of its matrices in a model of this format.
  static constexpr Format format(Format model) {
    const std::size_t per_product = method(model) == ConvMethod::winograd ? In
                                    : method(model) == ConvMethod::phases ? 4 * In
                                                                          : columns;
    return format_of_matrix(Out, per_product, model);
  }
  static constexpr std::size_t rows = Out, columns = K * K * In, count = rows * columns, storage = aligned(count);
  static constexpr std::size_t packed(Format model) {
    const Format f = format(model);
    if (method(model) == ConvMethod::phases) return 4 * packed_floats(Out, 4 * In, f);
    const std::size_t points = winograd_points(f) * packed_floats(Out, In, f), patches = packed_floats(Out, columns, f);
    if (method(model) == ConvMethod::winograd) return points;
    return method(model) == ConvMethod::direct && points > patches ? points : patches;
  }
  static constexpr std::size_t outer = Out, inner = In, taps = K * K;
  float* data = nullptr;
};

// Depthwise filters: [C][1][K][K] in files, [K][K][C] in memory.
template <std::size_t C, std::size_t K>
struct DepthwiseFilter {
  static constexpr bool is_matrix = false;
  static constexpr std::array<std::size_t, 4> file_shape{C, 1, K, K};
  static constexpr std::size_t count = C * K * K, storage = aligned(count);
  static constexpr std::size_t packed(Format) { return storage; }
  static constexpr std::size_t outer = 1, inner = C, taps = K * K;
  float* data = nullptr;
};

// A part that the configuration left out: no weights, no code; the visitor skips it.
struct Absent {};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
