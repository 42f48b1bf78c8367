// SPDX-License-Identifier: Apache-2.0
// Where a word of K lies in the panels that the register tile reads, and how a vector of words gets there.
//
// A, by rows: [depth / width][panel_rows][width], runs along k stay runs, since elements are only ever broadcast.
// A, by lane (64-bit ARM): [depth][panel_rows], a vector is several rows. B of both: [depth][tile_columns].
// By blocks (64-bit ARM with products of 2x2): A [depth / 2][panel_rows / 2][2 rows][2 words], B [depth / 2][tile_columns / 2][2
// columns][2 words], an odd depth followed by zeros.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>

#include "matmul_tile.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::detail {

// Row i's word w of k, w a multiple of a vector; rows above a tile's begin another panel.
template <Format F>
constexpr std::size_t a_offset(std::size_t i, std::size_t w = 0) {
  if constexpr (panel_order<F> == PanelOrder::rows) return w * panel_rows<F> + i * simd::width;
  else if constexpr (panel_order<F> == PanelOrder::lanes) return w * panel_rows<F> + i;
  else return w * panel_rows<F> + i / 2 * 4 + i % 2 * 2;
}
// From there to the j-th word of that vector.
template <Format F>
constexpr std::size_t a_word(std::size_t j) {
  if constexpr (panel_order<F> == PanelOrder::rows) return j;
  else if constexpr (panel_order<F> == PanelOrder::lanes) return j * panel_rows<F>;
  else return j / 2 * 2 * panel_rows<F> + j % 2;
}
// A vector of a row's words.
template <Format F>
inline void store_a(float* p, simd::Batch words) {
#if defined(__aarch64__)
  if constexpr (panel_order<F> == PanelOrder::blocks) simd::store_halves(p, p + 2 * panel_rows<F>, words);
  else simd::store_lanes(p, panel_rows<F>, words);
#else
  simd::store(p, words);
#endif
}

// Words of B's depth that a panel holds.
template <Format F>
constexpr std::size_t b_depth(std::size_t words) {
  return panel_order<F> == PanelOrder::blocks ? (words + 1) / 2 * 2 : words;
}
// Column j's word w of k, in a panel.
template <Format F>
constexpr std::size_t b_word(std::size_t w, std::size_t j) {
  if constexpr (panel_order<F> == PanelOrder::blocks) return w / 2 * 2 * tile_columns + j * 2 + w % 2;
  else return w * tile_columns + j;
}
// Word w of a vector of columns that begins at j. By blocks an even word clears the odd one's places, which come after it.
template <Format F>
inline void store_b(float* panel, std::size_t w, std::size_t j, simd::Batch words) {
#if defined(__aarch64__)
  if constexpr (panel_order<F> == PanelOrder::blocks) {
    float* const low = panel + b_word<F>(w / 2 * 2, j);
    if (w % 2 == 0) simd::store_zipped(low, words, simd::splat(0.0f));
    else simd::store_zipped(low, simd::even_lanes(simd::load(low), simd::load(low + simd::width)), words);
    return;
  }
#endif
  simd::store(panel + b_word<F>(w, j), words);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::detail

#include "../core/end.hpp"
