// SPDX-License-Identifier: Apache-2.0
// The products of attention on 64-bit ARM: panels and register tiles of the matrix product, whose operands need no broadcast.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "matmul_tile.hpp"
#include "panel_order.hpp"

#if defined(__aarch64__)

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::detail {

// Rows [0, rows), at most a tile's, of A(r, p) = a[r * a_row + p * a_step] into a panel; one of the steps is 1, and where a_row
// is, whole vectors of rows may be read.
template <Format F>
void attention_pack_rows(const float* a, std::size_t a_row, std::size_t a_step, std::size_t rows, std::size_t depth,
                         float* panel) {
  using simd::width;
  if (a_step == 1) {
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t p = 0; p < depth; p += width)
        store_a<F>(panel + a_offset<F>(r, p), simd::load_at_most(a + r * a_row + p, depth - p));
  } else if constexpr (panel_order<F> == PanelOrder::lanes) {
    for (std::size_t p = 0; p < depth; ++p)
      for (std::size_t r = 0; r < rows; r += width) simd::store(panel + p * tile_rows + r, simd::load(a + p * a_step + r));
  } else {
    for (std::size_t p = 0; p < depth; p += 2)
      for (std::size_t r = 0; r < rows; r += width)
        simd::store_zipped(panel + p * tile_rows + 2 * r, simd::load(a + p * a_step + r),
                           p + 1 < depth ? simd::load(a + (p + 1) * a_step + r) : simd::splat(0.0f));
  }
}

// b[depth][columns], columns a multiple of the width, into panels.
template <Format F>
void attention_pack_columns(const float* b, std::size_t b_ld, std::size_t columns, std::size_t depth, float* panels) {
  using simd::width;
  for (std::size_t j = 0; j < columns; j += width) {
    float* const panel = panels + j / tile_columns * b_depth<F>(depth) * tile_columns;
    const float* from = b + j;
    if constexpr (panel_order<F> == PanelOrder::lanes) {
      for (std::size_t p = 0; p < depth; ++p, from += b_ld) simd::store(panel + b_word<F>(p, j % tile_columns), simd::load(from));
    } else {
      for (std::size_t p = 0; p < depth; p += 2, from += 2 * b_ld)
        simd::store_zipped(panel + b_word<F>(p, j % tile_columns), simd::load(from),
                           p + 1 < depth ? simd::load(from + b_ld) : simd::splat(0.0f));
    }
  }
}

// What attention_product computes. scratch: (depth + 1) * (columns + tile_columns) + (depth + 3) * tile_rows floats.
template <bool Pairs>
void attention_product_in_tiles(std::size_t rows, std::size_t columns, std::size_t depth, const float* a, std::size_t a_row,
                                std::size_t a_step, const float* b, std::size_t b_ld, float* c, std::size_t c_ld, bool accumulate,
                                float* scratch) {
  constexpr Format F = Pairs ? Format::bf16 : Format::fp32;
  const std::size_t panel = b_depth<F>(depth) * tile_columns;
  float* const a_panel = scratch + (columns + tile_columns - 1) / tile_columns * panel;
  attention_pack_columns<F>(b, b_ld, columns, depth, scratch);
  Target t{};
  t.add = accumulate;
  std::size_t c_offset[tile_rows];
  for (std::size_t i = 0; i < rows; i += tile_rows) {
    const std::size_t n = std::min(tile_rows, rows - i);
    attention_pack_rows<F>(a + i * a_row, a_row, a_step, n, depth, a_panel);
    for (std::size_t r = 0; r < n; ++r) c_offset[r] = (i + r) * c_ld;
    for (std::size_t j = 0; j < columns; j += tile_columns) {
      t.c = c + j;
      t.columns = std::min(tile_columns, columns - j);
      for (std::size_t r = 0, height; r < n; r += height) {
        height = tile_height(n - r);
        t.c_offset = c_offset + r;
        tiles<F>[t.columns / simd::width - 1][height / 2](depth, a_panel + a_offset<F>(r), scratch + j / tile_columns * panel, t);
      }
    }
  }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::detail

#endif

#include "../core/end.hpp"
