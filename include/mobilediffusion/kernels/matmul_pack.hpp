// SPDX-License-Identifier: Apache-2.0
// Packing of operands into the panels that the micro kernel reads: gathers patches, rounds to bf16, transposes.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "operand.hpp"
#include "panel_order.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::detail {

// One vector of words from `n` values that follow each other along k.
template <Format F>
simd::Batch words_along(const float* p, std::size_t n) {
  using simd::width;
  if constexpr (pairing<F> == 2) {
    if (n >= 2 * width) return simd::pairs_along(simd::load(p), simd::load(p + width));
    return simd::pairs_along(simd::load_at_most(p, n), simd::load_at_most(p + width, n > width ? n - width : 0));
  } else {
    const simd::Batch x = simd::load_at_most(p, n);
    return F == Format::bf16 ? simd::round_bf16(x) : x;
  }
}

// One word (of pairing<F> values of k) for each of `n` neighbours across k; rows may be nullptr (zeros).
template <Format F>
simd::Batch words_across(const float* k0, [[maybe_unused]] const float* k1, std::size_t n) {
  const simd::Batch x = k0 != nullptr ? simd::load_at_most(k0, n) : simd::splat(0.0f);
  if constexpr (pairing<F> == 2) return simd::pairs_across(x, k1 != nullptr ? simd::load_at_most(k1, n) : simd::splat(0.0f));
  else return F == Format::bf16 ? simd::round_bf16(x) : x;
}

// Where row i's word of k is in panels that are `panel` floats apart.
template <Format F>
constexpr std::size_t panel_offset(std::size_t i, std::size_t k, std::size_t panel) {
  constexpr std::size_t high = panel_rows<F>;
  return i / high * panel + a_offset<F>(i % high, k / pairing<F> / simd::width * simd::width);
}
template <Format F>
constexpr std::size_t panel_floats(std::size_t columns) {
  constexpr std::size_t high = panel_rows<F>;
  return (columns + pairing<F> * simd::width - 1) / (pairing<F> * simd::width) * high * simd::width;
}

// Columns [begin, end) of row r, gathered into `out`.
inline void gather(const Operand& m, const Operand::Row& r, std::size_t begin, std::size_t end, float* out) {
  const std::size_t run = m.run_length();
  for (std::size_t s = begin / run, c = begin; c < end; ++s) {
    const std::size_t stop = std::min(end, (s + 1) * run);
    const float* p = m.run(r, s / m.taps_x(), s % m.taps_x());
    if (p != nullptr) std::memcpy(out, p + (c - s * run), (stop - c) * sizeof(float));
    else std::memset(out, 0, (stop - c) * sizeof(float));
    out += stop - c;
    c = stop;
  }
}

// Rows [row, row + rows), at most a tile's, k in [k0, k1), into a panel; the runs of A go along k. k0: a multiple of a vector of
// words. buffer: k1 - k0 floats.
template <Format F>
void pack_a_along(const Operand& m, std::size_t row, std::size_t rows, std::size_t k0, std::size_t k1, float* out,
                  float* buffer) {
  constexpr std::size_t high = panel_rows<F>;
  using simd::width;
  constexpr std::size_t step = width * pairing<F>;
  if (k0 == k1) return;
  const std::size_t run = m.run_length(), taps = m.taps_x();
  const bool whole = m.runs() == 1 || run % step == 0;
  const std::size_t first = k0 / run;
  Operand::Row r = m.row(row);
  for (std::size_t i = 0; i < rows; ++i, m.advance(r)) {
    float* o = out + a_offset<F>(i);
    if (!whole) {
      gather(m, r, k0, k1, buffer);
      for (std::size_t k = 0; k < k1 - k0; k += step, o += high * width) store_a<F>(o, words_along<F>(buffer + k, k1 - k0 - k));
      continue;
    }
    std::size_t ty = first / taps, tx = first % taps, inside = k0 - first * run;
    for (std::size_t k = k0; k < k1;) {
      const float* p = m.run(r, ty, tx);
      const std::size_t end = std::min(k1, k + run - inside);
      if (p != nullptr) {
        p += inside;
        for (; k + step <= end; k += step, p += step, o += high * width) store_a<F>(o, words_along<F>(p, step));
        if (k < end) store_a<F>(o, words_along<F>(p, end - k));  // the end of K
        k = end;
      } else {
        for (; k < end; k += step, o += high * width) store_a<F>(o, simd::splat(0.0f));
        k = end;
      }
      inside = 0;
      if (++tx == taps) {
        tx = 0;
        ++ty;
      }
    }
  }
}

// A row as bytes of its own range: x = scale q + low, q in [0, 255], the range always with 0.
struct ByteRange {
  float scale, low, inverse;

  ByteRange(const float* x, std::size_t n) {
    using simd::Batch;
    using simd::width;
    Batch least[2]{simd::splat(0.0f), simd::splat(0.0f)}, most[2]{least[0], least[0]};
    const auto widen = [&](Batch v, std::size_t chain) {
      least[chain] = simd::min(least[chain], v);
      most[chain] = simd::max(most[chain], v);
    };
    std::size_t k = 0;
    for (; k + 2 * width <= n; k += 2 * width) {
      widen(simd::load(x + k), 0);
      widen(simd::load(x + k + width), 1);
    }
    for (; k < n; k += width) widen(simd::load_at_most(x + k, n - k), 0);
    low = simd::minimum(simd::min(least[0], least[1]));
    const float range = simd::maximum(simd::max(most[0], most[1])) - low;
    inverse = range > 0.0f ? 255.0f / range : 0.0f;
    scale = range * (1.0f / 255.0f);
  }

  // What is stored is q less the bias that the instruction set's bytes have; this is the `low` that belongs to it.
  float stored_low() const { return low + simd::byte_bias * scale; }

  void store(const float* x, std::size_t n, float* out) const {
    constexpr std::size_t high = panel_rows<Format::int8>;
    using simd::Batch;
    using simd::width;
    constexpr std::size_t step = 4 * width;
    const Batch by = simd::splat(inverse), zero = simd::splat(-low * inverse - simd::byte_bias);
    auto* bytes = reinterpret_cast<std::uint8_t*>(out);
    std::size_t k = 0;
    if constexpr (panel_order<Format::int8> == PanelOrder::rows) {
      const auto q = [&](std::size_t j) { return simd::fma(simd::load(x + k + j), by, zero); };
      for (; k + step <= n; k += step, bytes += 4 * high * width)
        simd::store_bytes(bytes, q(0), q(width), q(2 * width), q(3 * width));
    }
    for (; k < n; k += step, bytes += 4 * high * width)
      for (std::size_t j = 0; j < step && k + j < n; j += width)
        simd::store_bytes(bytes + 4 * a_word<Format::int8>(j / 4) + j % 4,
                          simd::fma(simd::load_at_most(x + k + j, n - k - j), by, zero));
  }
};

// pack_a_along in bytes. Sets scale and low for what is stored. buffer: two rows of k1 - k0 floats.
inline void quantize_a_along(const Operand& m, std::size_t row, std::size_t rows, std::size_t k0, std::size_t k1, float* out,
                             float* buffer, float* scale, float* low) {
  const std::size_t n = k1 - k0;
  Operand::Row r = m.row(row);
  const auto next = [&](std::size_t i) -> const float* {
    const float* x = r.base + k0;
    if (!m.is_dense()) {
      x = buffer + i % 2 * n;
      gather(m, r, k0, k1, buffer + i % 2 * n);
    }
    m.advance(r);
    return x;
  };
  // A row's range is found before the last row's bytes are stored: neither then waits for the other.
  const float* x = next(0);
  ByteRange range(x, n);
  for (std::size_t i = 0; i < rows; ++i) {
    const float* const now = x;
    const ByteRange its = range;
    if (i + 1 < rows) {
      x = next(i + 1);
      range = ByteRange(x, n);
    }
    scale[i] = its.scale;
    low[i] = its.stored_low();
    its.store(now, n, out + a_offset<Format::int8>(i));
  }
}

// The same from A^T, dense: the runs go across k. m has K rows.
template <Format F>
void pack_a_across(const Operand& m, std::size_t row, std::size_t rows, std::size_t k0, std::size_t k1, float* out) {
  constexpr std::size_t high = panel_rows<F>;
  using simd::width;
  constexpr std::size_t step = width * pairing<F>, pair = pairing<F>;
  const std::size_t ld = m.ld();
  if constexpr (panel_order<F> == PanelOrder::lanes) {
    static_assert(pair == 1 && high % width == 0);
    for (std::size_t k = k0; k < k1; ++k, out += high)
      for (std::size_t j = 0; j < rows; j += width)
        simd::store(out + j, words_across<F>(m.data() + row + j + k * ld, nullptr, rows - j));
    return;
  }
  for (std::size_t k = k0; k < k1; k += step, out += high * width)
    for (std::size_t j = 0; j < rows; j += width) {
      const std::size_t n = std::min(width, rows - j);
      const float* p = m.data() + row + j + k * ld;
      simd::Batch t[width];
#pragma GCC unroll 16
      for (std::size_t w = 0; w < width; ++w) {
        const std::size_t at = k + w * pair;
        t[w] = words_across<F>(at < k1 ? p + w * pair * ld : nullptr, at + 1 < k1 ? p + (w * pair + 1) * ld : nullptr, n);
      }
      simd::transpose(t);
#pragma GCC unroll 16
      for (std::size_t w = 0; w < width; ++w)
        if (w < n) store_a<F>(out + a_offset<F>(j + w), t[w]);
    }
}

// Columns [column, column + columns) of B, k in [k0, k1), into panels; the runs of the K-row matrix m go across k. buffer: 2 *
// columns floats.
template <Format F>
void pack_b_across(const Operand& m, std::size_t column, std::size_t columns, std::size_t k0, std::size_t k1, float* out,
                   float* buffer) {
  using simd::width;
  constexpr std::size_t pair = pairing<F>;
  if (k0 == k1) return;
  const std::size_t run = m.run_length(), taps = m.taps_x(), depth = (k1 - k0 + pair - 1) / pair,
                    panel_size = b_depth<F>(depth) * tile_columns;
  Operand::Row r = m.row(k0);
  if (m.runs() > 1 && run % width != 0) {
    for (std::size_t k = k0, word = 0; k < k1; k += pair, ++word) {
      gather(m, r, column, column + columns, buffer);
      m.advance(r);
      const bool second = pair == 2 && k + 1 < k1;
      if (second) {
        gather(m, r, column, column + columns, buffer + columns);
        m.advance(r);
      }
      for (std::size_t j = 0; j < columns; j += width)
        store_b<F>(out + j / tile_columns * panel_size, word, j % tile_columns,
                   words_across<F>(buffer + j, second ? buffer + columns + j : nullptr, columns - j));
    }
    return;
  }
  // Run by run, so that reads and writes are streams.
  for (std::size_t s = column / run, c = column; c < column + columns; ++s) {
    const std::size_t stop = std::min(column + columns, (s + 1) * run), inside = c - s * run, ty = s / taps, tx = s % taps;
    r = m.row(k0);
    for (std::size_t word = 0; word < depth; ++word) {
      const float* p0 = m.run(r, ty, tx);
      m.advance(r);
      const float* p1 = nullptr;
      if constexpr (pair == 2) {
        if (k0 + 2 * word + 1 < k1) {
          p1 = m.run(r, ty, tx);
          m.advance(r);
        }
      }
      if (p0 != nullptr) p0 += inside;
      if (p1 != nullptr) p1 += inside;
      for (std::size_t j = c - column; j < stop - column; j += width) {
        store_b<F>(out + j / tile_columns * panel_size, word, j % tile_columns, words_across<F>(p0, p1, stop - column - j));
        if (p0 != nullptr) p0 += width;
        if (p1 != nullptr) p1 += width;
      }
    }
    c = stop;
  }
}

// The same from B^T [columns][K], dense: the runs go along k. panel_stride: floats from panel to panel.
template <Format F>
void pack_b_along(const float* b, std::size_t ld, std::size_t columns, std::size_t k0, std::size_t k1, float* out,
                  std::size_t panel_stride) {
  using simd::width;
  constexpr std::size_t step = width * pairing<F>, pair = pairing<F>;
  for (std::size_t j = 0; j < columns; j += width) {
    float* const panel = out + j / tile_columns * panel_stride;
    const std::size_t n = std::min(width, columns - j);
    std::size_t word = 0;
    for (std::size_t k = k0; k < k1; k += step) {
      simd::Batch t[width];
      const std::size_t left = k1 - k;
      if (n == width && left >= step) {
#pragma GCC unroll 16
        for (std::size_t w = 0; w < width; ++w) t[w] = words_along<F>(b + (j + w) * ld + k, step);
      } else {
        for (std::size_t w = 0; w < width; ++w) t[w] = w < n ? words_along<F>(b + (j + w) * ld + k, left) : simd::splat(0.0f);
      }
      simd::transpose(t);
      const std::size_t words = std::min(width, (left + pair - 1) / pair);
      for (std::size_t w = 0; w < words; ++w, ++word) store_b<F>(panel, word, j % tile_columns, t[w]);
    }
  }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::detail

#include "../core/end.hpp"
