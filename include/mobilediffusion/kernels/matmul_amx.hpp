// SPDX-License-Identifier: Apache-2.0
// The micro kernel of the matrix products on AMX's tiles (simd/tiles.hpp), bf16 and int8: 2 x 2 of them are 32 x 32 of C.
//
// A's panel and B's are those of the vector kernels: 16 words of k of 16 rows of A are a tile of rows 64 bytes apart, and 16 rows
// of a panel of B are two, already in the order in which the instructions want pairs and quadruples of k.
// int8 gives the very sums of the vector kernel. bf16 does not: the even and the odd values of 32 values of k are two sums, added
// to each other and then to C.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "../core/unroll.hpp"
#include "../simd/tiles.hpp"
#include "matmul_tile.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::detail {

// Registers: 0 to 3 are C's tiles [down][across], 4 and 5 A's, 6 and 7 B's.
inline constexpr int tile_a = 4, tile_b = 6;
constexpr int tile_c(std::size_t down, std::size_t across) { return static_cast<int>(2 * down + across); }

template <Format F, int C, int A, int B>
[[gnu::always_inline]] inline void dot_tiles() {
  if constexpr (F == Format::int8) simd::dot_tiles_int8<C, A, B>();
  else simd::dot_tiles_bf16<C, A, B>();
}

// C's tiles += A B over `steps` times 16 words of k. a: rows a_ld floats apart, from step to step a_step; b: rows of k, b_ld
// apart. Once: whether B is not read again soon, and should leave the first-level cache to A.
template <Format F, std::size_t Down, std::size_t Across, bool Once>
[[gnu::always_inline]] inline void add_tile_products(std::size_t steps, const float* a, std::size_t a_ld, std::size_t a_step,
                                                     const float* b, std::size_t b_ld) {
  constexpr std::size_t side = simd::tile_side;
  for (; steps > 0; --steps, a += a_step, b += side * b_ld) {
    unroll_inlined<Down>([&](auto i) __attribute__((always_inline)) {
      simd::load_tile<tile_a + static_cast<int>(i)>(a + i * side * a_ld, 4 * a_ld);
      unroll_inlined<Across>([&](auto j) __attribute__((always_inline)) {
        constexpr int right = tile_b + static_cast<int>(j);
        if constexpr (i == 0 && Once) simd::load_tile_once<right>(b + j * side, 4 * b_ld);
        else if constexpr (i == 0) simd::load_tile<right>(b + j * side, 4 * b_ld);
        dot_tiles<F, tile_c(i, j), tile_a + static_cast<int>(i), right>();
      });
    });
  }
}

// Rows [first, rows) of sums [rows][ld], as the tiles leave them, into C with the epilogue.
template <Format F, std::size_t Vectors>
void finish_tiles(std::size_t first, std::size_t rows, float* sums, std::size_t ld, const Target& t) {
  using simd::Batch, simd::width;
  const bool whole = t.columns == Vectors * width;
  for (std::size_t r = first; r < rows; ++r) {
    float* const c = t.c + t.c_offset[r];
    for (std::size_t v = 0; v < Vectors; ++v) {
      float* const from = sums + r * ld + v * width;
      Batch x = simd::load(from);
      if constexpr (F == Format::int8)
        x = simd::fma(simd::to_float(simd::load_words(from)), simd::splat(t.a_scale[r]) * simd::load(t.b_scale + v * width),
                      simd::splat(t.a_low[r]) * simd::load(t.b_sum + v * width));
      if (whole) {
        if (t.add) x = x + simd::load(c + v * width);
        if (t.bias != nullptr) x = x + simd::load(t.bias + t.bias_offset[r] + v * width);
        if (t.residual != nullptr) x = x + simd::load(t.residual + r * t.residual_ld + v * width);
      }
      simd::store(whole ? c + v * width : from, x);
    }
  }
  if (!whole) finish_partial(rows, sums, ld, t);
}

template <Format F, std::size_t Down, std::size_t Across>
void multiply_tiles(std::size_t rows, std::size_t depth, const float* a, const float* b, const Target& t) {
  constexpr std::size_t side = simd::tile_side, a_step = panel_rows<F> * side, ld = Across * side;
  // fp32 begins with what is in C and is added to, whole tiles that get nothing else where they are, the others in a buffer:
  // either way an element is the same sum.
  const bool plain = F == Format::bf16 && t.c_ld != 0 && t.columns == ld && t.bias == nullptr && t.residual == nullptr;
  const std::size_t in_place = plain ? rows / side : 0;
  const bool begins_with_c = F == Format::bf16 && t.add;
  alignas(64) float sums[Down * side * ld];
  for (std::size_t r = in_place * side; r < rows; ++r) {
    const float* const c = t.c + t.c_offset[r];
    if (begins_with_c) {
      std::copy_n(c, t.columns, sums + r * ld);
    } else {
      __builtin_prefetch(c, 1);
      if constexpr (Across == 2) __builtin_prefetch(c + side, 1);
    }
  }
  unroll_inlined<Down>([&](auto i) __attribute__((always_inline)) {
    unroll_inlined<Across>([&](auto j) __attribute__((always_inline)) {
      if (!begins_with_c) simd::zero_tile<tile_c(i, j)>();
      else if (i < in_place) simd::load_tile<tile_c(i, j)>(t.c + t.c_offset[i * side] + j * side, 4 * t.c_ld);
      else simd::load_tile<tile_c(i, j)>(sums + i * side * ld + j * side, 4 * ld);
    });
  });
  const std::size_t steps = depth / side, rest = depth % side;
  add_tile_products<F, Down, Across, true>(steps, a, side, a_step, b, tile_columns);
  if (rest > 0) {  // B ends here, and what follows may be anything: zeros instead, for all that A's panel holds there
    alignas(64) float last[side * tile_columns];
    std::copy_n(b + steps * side * tile_columns, rest * tile_columns, last);
    std::fill(last + rest * tile_columns, last + side * tile_columns, 0.0f);
    add_tile_products<F, Down, Across, true>(1, a + steps * a_step, side, a_step, last, tile_columns);
  }
  unroll_inlined<Down>([&](auto i) __attribute__((always_inline)) {
    unroll_inlined<Across>([&](auto j) __attribute__((always_inline)) {
      if (i < in_place) simd::store_tile<tile_c(i, j)>(t.c + t.c_offset[i * side] + j * side, 4 * t.c_ld);
      else simd::store_tile<tile_c(i, j)>(sums + i * side * ld + j * side, 4 * ld);
    });
  });
  if (in_place * side == rows) return;
  Target rest_of_sum = t;
  rest_of_sum.add = t.add && !begins_with_c;
  finish_tiles<F, Across>(in_place * side, rows, sums, ld, rest_of_sum);
}

// c[rows][t.columns] (+)= a b over `depth` words of k, rows <= 32. a: [depth / 16][32][16], whose words beyond the depth are
// finite; rows beyond `rows` may be anything. b: [depth][tile_columns].
template <Format F>
void multiply_tiles(std::size_t rows, std::size_t depth, const float* a, const float* b, const Target& t) {
  static_assert(!simd::has_tiles || simd::width == simd::tile_side);
  const bool low = rows <= simd::tile_side, narrow = t.columns <= simd::tile_side;
  if (low && narrow) multiply_tiles<F, 1, 1>(rows, depth, a, b, t);
  else if (low) multiply_tiles<F, 1, 2>(rows, depth, a, b, t);
  else if (narrow) multiply_tiles<F, 2, 1>(rows, depth, a, b, t);
  else multiply_tiles<F, 2, 2>(rows, depth, a, b, t);
}

// c[rows][columns] (+)= a b of pairs of bf16, a: [rows][depth], b: [depth][columns] in words, rows *_ld floats apart; all sizes
// are those of whole tiles.
template <std::size_t Down, std::size_t Across>
void multiply_whole_tiles(std::size_t depth, const float* a, std::size_t a_ld, const float* b, std::size_t b_ld, float* c,
                          std::size_t c_ld, bool add) {
  constexpr std::size_t side = simd::tile_side;
  unroll_inlined<Down>([&](auto i) __attribute__((always_inline)) {
    unroll_inlined<Across>([&](auto j) __attribute__((always_inline)) {
      if (add) simd::load_tile<tile_c(i, j)>(c + i * side * c_ld + j * side, 4 * c_ld);
      else simd::zero_tile<tile_c(i, j)>();
    });
  });
  add_tile_products<Format::bf16, Down, Across, false>(depth / side, a, a_ld, side, b, b_ld);
  unroll_inlined<Down>([&](auto i) __attribute__((always_inline)) {
    unroll_inlined<Across>([&](auto j) __attribute__((always_inline)) {
      simd::store_tile<tile_c(i, j)>(c + i * side * c_ld + j * side, 4 * c_ld);
    });
  });
}
inline void multiply_whole_tiles(std::size_t rows, std::size_t columns, std::size_t depth, const float* a, std::size_t a_ld,
                                 const float* b, std::size_t b_ld, float* c, std::size_t c_ld, bool add) {
  constexpr std::size_t side = simd::tile_side;
  for (std::size_t i = 0; i < rows; i += 2 * side)
    for (std::size_t j = 0; j < columns; j += 2 * side) {
      const bool low = rows - i == side, narrow = columns - j == side;
      const auto part = low      ? narrow ? multiply_whole_tiles<1, 1> : multiply_whole_tiles<1, 2>
                             : narrow ? multiply_whole_tiles<2, 1>
                                 : multiply_whole_tiles<2, 2>;
      part(depth, a + i * a_ld, a_ld, b + j, b_ld, c + i * c_ld + j, c_ld, add);
    }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::detail

#include "../core/end.hpp"
