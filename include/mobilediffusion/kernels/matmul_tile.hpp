// SPDX-License-Identifier: Apache-2.0
// The micro kernel of the matrix products: one register tile of C over one block of K, for every number of rows.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "../core/number_formats.hpp"
#include "../simd/dot_bf16.hpp"
#include "../simd/dot_int8.hpp"
#include "../simd/tiles.hpp"
#include "arguments.hpp"
#include "matmul_tile_arm.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

// Values of k in one 32-bit word of a panel.
template <Format F>
inline constexpr std::size_t pairing = F == Format::int8                        ? 4
                                       : F == Format::bf16&& simd::has_dot_bf16 ? 2
                                                                                : 1;

// The tile: all registers of the instruction set but those that hold one row of B and one element of A.
#if defined(__AVX512F__)
inline constexpr std::size_t tile_rows = 14;
#elif defined(__aarch64__)
inline constexpr std::size_t tile_rows = 12;
#elif defined(__wasm__)  // six rows take 1.4 times as long: x86-64 has 16 registers, and product, sum and spare take some
inline constexpr std::size_t tile_rows = 4;
#else
inline constexpr std::size_t tile_rows = 6;
#endif
inline constexpr std::size_t tile_vectors = 2;
inline constexpr std::size_t tile_columns = tile_vectors * simd::width;

// Whether the processor's tiles multiply this format (matmul_amx.hpp), and the rows of a panel of A: two of them high, or as
// high as the tile of vectors.
template <Format F>
inline constexpr bool on_tiles = simd::has_tiles&& pairing<F> > 1;
template <Format F>
inline constexpr std::size_t panel_rows = on_tiles<F> ? 2 * simd::tile_side : tile_rows;

// How the panels of A and B lie in memory (panel_order.hpp).
enum class PanelOrder { rows, lanes, blocks };
template <Format F>
#if defined(__aarch64__)
inline constexpr PanelOrder panel_order = simd::has_blocks&& F != Format::fp32 ? PanelOrder::blocks : PanelOrder::lanes;
#else
inline constexpr PanelOrder panel_order = PanelOrder::rows;
#endif

// Where a tile goes, row by row: offsets are those of the tile's rows.
struct Target {
  float* c;
  const std::size_t* c_offset;
  std::size_t c_ld;     // between neighbouring rows, or 0 where they are not equally far apart
  std::size_t columns;  // at most the tile's
  bool add;             // to what is in c: a later block of K, or accumulation
  bool stream;          // written past the caches (loops.hpp)
  const float* bias;    // or nullptr
  const std::size_t* bias_offset;
  const float* residual;  // or nullptr
  std::size_t residual_ld;
  // int8: a row of A is a_scale q + a_low; a column of B is b_scale q, and b_sum the sum of these over the block of K.
  const float *a_scale, *a_low, *b_scale, *b_sum;
};

// Code for that is in tiles of all columns and more than half the rows: nearly all are such.
template <std::size_t Rows, std::size_t Vectors>
inline constexpr bool can_stream = simd::can_stream&& Vectors == tile_vectors && 2 * Rows > tile_rows;

// A tile cut off at the right edge of C.
inline void finish_partial(std::size_t rows, const float* sums, std::size_t ld, const Target& t) {
  for (std::size_t r = 0; r < rows; ++r) {
    float* c = t.c + t.c_offset[r];
    for (std::size_t j = 0; j < t.columns; ++j) {
      float x = sums[r * ld + j];
      if (t.add) x += c[j];
      if (t.bias != nullptr) x += t.bias[t.bias_offset[r] + j];
      if (t.residual != nullptr) x += t.residual[r * t.residual_ld + j];
      c[j] = x;
    }
  }
}

#if !defined(__aarch64__)
inline constexpr std::size_t ahead = 1024;  // floats of B between what is multiplied and what is asked for
// The loop of the tile, for accumulators of any type. The steps are inlined.
template <std::size_t Rows, std::size_t Vectors, class Sum, class Zero, class Load, class Splat, class Dot>
[[gnu::always_inline]] inline void multiply_block(std::size_t depth, const float* a, const float* b, Sum (&sums)[Rows][Vectors],
                                                  Zero zero, Load load, Splat splat, Dot dot) {
  constexpr std::size_t width = simd::width;
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] = zero();
  for (std::size_t k = 0; k < depth; k += width) {
    const std::size_t end = depth - k < width ? depth - k : width;
    for (std::size_t j = 0; j < end; ++j) {
      Sum row[Vectors];
#pragma GCC unroll 2
      for (std::size_t v = 0; v < Vectors; ++v) row[v] = load(b + v * width);
#pragma GCC unroll 16
      for (std::size_t r = 0; r < Rows; ++r) {
        const Sum x = splat(a + r * width + j);
#pragma GCC unroll 2
        for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] = dot(x, row[v], sums[r][v]);
      }
      // B comes from the second level, or for the first time from memory.
      for (std::size_t l = 0; l < tile_columns; l += 16) __builtin_prefetch(b + ahead + l);
      b += tile_columns;
    }
    a += tile_rows * width;
  }
}
#endif

// What 8-bit sums stand for.
template <std::size_t Rows, std::size_t Vectors>
[[gnu::always_inline]] inline void to_floats(const simd::Words (&sums)[Rows][Vectors], simd::Batch (&acc)[Rows][Vectors],
                                             const Target& t) {
  constexpr std::size_t width = simd::width;
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (std::size_t v = 0; v < Vectors; ++v)
      acc[r][v] = simd::fma(simd::to_float(sums[r][v]), simd::splat(t.a_scale[r]) * simd::load(t.b_scale + v * width),
                            simd::splat(t.a_low[r]) * simd::load(t.b_sum + v * width));
}

// The sums into C, with what is added to them.
template <std::size_t Rows, std::size_t Vectors>
[[gnu::always_inline]] inline void finish(const simd::Batch (&acc)[Rows][Vectors], const Target& t) {
  using simd::Batch;
  constexpr std::size_t width = simd::width;
  if (t.columns == Vectors * width) {
#pragma GCC unroll 16
    for (std::size_t r = 0; r < Rows; ++r) {
      float* c = t.c + t.c_offset[r];
#pragma GCC unroll 2
      for (std::size_t v = 0; v < Vectors; ++v) {
        Batch x = acc[r][v];
        if (t.add) x = x + simd::load(c + v * width);
        if (t.bias != nullptr) x = x + simd::load(t.bias + t.bias_offset[r] + v * width);
        if (t.residual != nullptr) x = x + simd::load(t.residual + r * t.residual_ld + v * width);
        if (can_stream<Rows, Vectors> && t.stream) simd::stream(c + v * width, x);
        else simd::store(c + v * width, x);
      }
    }
    return;
  }
  alignas(64) float rows[Rows][Vectors * width];
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (std::size_t v = 0; v < Vectors; ++v) simd::store(rows[r] + v * width, acc[r][v]);
  finish_partial(Rows, rows[0], Vectors * width, t);
}

// c[Rows][Vectors * width] (+)= a b over `depth` words of k. a and b: panels as panel_order.hpp says.
template <Format F, std::size_t Rows, std::size_t Vectors>
void tile(std::size_t depth, const float* a, const float* b, const Target& t) {
  using simd::Batch;
  constexpr std::size_t width = simd::width;
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Rows; ++r) {  // C is read or written once, a whole tile later
    if (!can_stream<Rows, Vectors> || !t.stream) {
      __builtin_prefetch(t.c + t.c_offset[r], 1);
      if constexpr (Vectors == 2 && width == 16) __builtin_prefetch(t.c + t.c_offset[r] + width, 1);
    }
    if (2 * Rows > tile_rows && t.residual != nullptr) {
      __builtin_prefetch(t.residual + r * t.residual_ld);
      if constexpr (Vectors == 2 && width == 16) __builtin_prefetch(t.residual + r * t.residual_ld + width);
    }
  }
  Batch acc[Rows][Vectors];
  if constexpr (F == Format::int8) {
    simd::Words sums[Rows][Vectors];
#if defined(__aarch64__)
    if constexpr (panel_order<F> == PanelOrder::blocks) multiply_by_blocks<ByteSteps, tile_rows, tile_columns>(depth, a, b, sums);
    else multiply_by_lane<ByteSteps, tile_rows, tile_columns>(depth, a, b, sums);
#else
    multiply_block<Rows, Vectors>(
        depth, a, b, sums, [] { return simd::zero_words(); }, simd::load_words, simd::splat_word, simd::dot_int8);
#endif
    to_floats(sums, acc, t);
  } else {
#if defined(__aarch64__)
    if constexpr (panel_order<F> == PanelOrder::blocks) multiply_by_blocks<FloatSteps, tile_rows, tile_columns>(depth, a, b, acc);
    else multiply_by_lane<FloatSteps, tile_rows, tile_columns>(depth, a, b, acc);
#else
    multiply_block<Rows, Vectors>(
        depth, a, b, acc, [] { return simd::splat(0.0f); }, simd::load, [](const float* p) { return simd::splat(*p); },
        [](Batch x, Batch row, Batch sum) {
          if constexpr (pairing<F> == 2) return simd::dot_bf16(x, row, sum);
          else return simd::fma(x, row, sum);
        });
#endif
  }
  finish(acc, t);
}

// Heights compiled: one row and every even number, so an odd rest of rows is an even tile and a row. Any height computes an
// element alike.
inline constexpr std::size_t tile_height(std::size_t rows) {
  return rows >= tile_rows ? tile_rows : rows == 1 ? 1 : rows / 2 * 2;
}

using TileFunction = void (*)(std::size_t, const float*, const float*, const Target&);

template <Format F, std::size_t Vectors, std::size_t... Half>
constexpr std::array<TileFunction, sizeof...(Half)> tiles_of(std::index_sequence<Half...>) {
  return {&tile < F, Half == 0 ? 1 : 2 * Half, Vectors > ...};
}
// The format whose tiles multiply F's panels: bf16 that is widened has fp32's.
template <Format F>
inline constexpr Format tile_format =
    pairing<F> == pairing<Format::fp32>&& panel_order<F> == panel_order<Format::fp32> ? Format::fp32 : F;
// [vectors - 1][height / 2]
template <Format F>
inline constexpr std::array<std::array<TileFunction, tile_rows / 2 + 1>, tile_vectors> tiles{
    tiles_of<tile_format<F>, 1>(std::make_index_sequence<tile_rows / 2 + 1>{}),
    tiles_of<tile_format<F>, 2>(std::make_index_sequence<tile_rows / 2 + 1>{})};

}  // namespace detail
}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
