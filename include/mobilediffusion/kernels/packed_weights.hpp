// SPDX-License-Identifier: Apache-2.0
// Weights in the order in which the products read them, in fp32, bf16 or int8: packed once, when they are bound.
//
// A panel is tile_columns outputs. fp32: [k][tile_columns]. bf16: [k / 2][tile_columns] words of two values of k. int8: the
// outputs' scales, their sums over each block of K, then [k / 4][tile_columns] words of four values of k. (panel_order.hpp: where
// words lie in other orders.) What a processor has no dot products for is widened to fp32, a block at a time, when it is read.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../core/param.hpp"
#include "../core/reinterpret_bits.hpp"
#include "matmul_pack.hpp"
#include "matmul_tile.hpp"
#include "panel_order.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

static_assert(panel % tile_columns == 0);

// Values of k in a block: as even as whole vectors allow. The same for every instruction set up to the last rounding.
inline std::size_t k_block(std::size_t k, std::size_t pair) {
  const std::size_t words = (k + pair - 1) / pair, blocks = (words + block_depth - 1) / block_depth;
  return (blocks == 0 ? 1 : ((words + blocks - 1) / blocks + simd::width - 1) / simd::width) * simd::width * pair;
}

struct PackedPanel {
  Format format;
  bool expands;        // to fp32 when it is read
  std::size_t floats;  // of one panel
  std::size_t header;  // before its words

  PackedPanel(Format f, std::size_t k)
      : format(f), expands((f == Format::bf16 && !simd::has_dot_bf16) || (f == Format::int8 && !simd::has_dot_int8)) {
    const std::size_t words = packed_words(k, f);
    header = f == Format::int8 ? tile_columns * (1 + (words + block_depth - 1) / block_depth) : 0;
    floats = header + words * tile_columns;
  }
  static Format computed_in(Format f) { return f == Format::int8 && !simd::has_dot_int8 ? Format::fp32 : f; }
  std::size_t values() const { return format == Format::fp32 ? 1 : format == Format::bf16 ? 2 : 4; }  // a word
  // Where a block of K begins in a panel, and output j's word w of k.
  std::size_t words_at(std::size_t k) const { return header + k / values() * tile_columns; }
  std::size_t word(std::size_t w, std::size_t j) const {
    if (format == Format::fp32) return b_word<Format::fp32>(w, j);
    return header + (format == Format::bf16 ? b_word<Format::bf16>(w, j) : b_word<Format::int8>(w, j));
  }

  // The weight of output j and value k, from a panel.
  float value(const float* p, std::size_t j, std::size_t k) const {
    const float* at = p + word(k / values(), j);
    if (format == Format::fp32) return *at;
    const auto* inside = reinterpret_cast<const unsigned char*>(at);
    if (format == Format::bf16) {
      std::uint16_t h;
      std::memcpy(&h, inside + 2 * (k % 2), 2);
      return from_bf16(h);
    }
    return p[j] * static_cast<float>(static_cast<std::int8_t>(inside[k % 4]));
  }

  // k in [k0, k1) of `columns` outputs, bf16 or int8, as fp32 panels [k1 - k0][tile_columns]. k0: a multiple of a word's values.
  void expand(const float* p, std::size_t columns, std::size_t k0, std::size_t k1, float* out) const {
    using simd::width;
    for (std::size_t j = 0; j < columns; j += tile_columns, p += floats)
      for (std::size_t v = 0; v < tile_columns; v += width) {
        const float* word = p + words_at(k0) + v;
        float* o = out + j * (k1 - k0) + v;
        const auto put = [&](simd::Batch x, std::size_t k) {
          if (k < k1 - k0) simd::store(o + k * tile_columns, x);
        };
        if (format == Format::bf16) {
          for (std::size_t k = 0; k < k1 - k0; k += 2, word += tile_columns) {
            const simd::Batch pairs = simd::load(word);
            put(simd::first_bf16(pairs), k);
            put(simd::second_bf16(pairs), k + 1);
          }
        } else {
          const simd::Batch scale = simd::load(p + v);
          for (std::size_t k = 0; k < k1 - k0; k += 4, word += tile_columns) {
            const simd::Batch bytes = simd::load(word);
            put(scale * simd::nth_int8<0>(bytes), k);
            put(scale * simd::nth_int8<1>(bytes), k + 1);
            put(scale * simd::nth_int8<2>(bytes), k + 2);
            put(scale * simd::nth_int8<3>(bytes), k + 3);
          }
        }
      }
  }
};

inline void pack_panel_bf16(const float* w, std::size_t rows, std::size_t columns, float* out) {
  const std::size_t words = packed_words(columns, Format::bf16);
  auto* halves = reinterpret_cast<unsigned char*>(out);
  std::memset(halves, 0, words * tile_columns * 4);
  for (std::size_t j = 0; j < rows; ++j)
    for (std::size_t k = 0; k < columns; ++k) {
      const std::uint16_t h = to_bf16(w[j * columns + k]);
      std::memcpy(halves + 4 * (k / 2 * tile_columns + j) + 2 * (k % 2), &h, 2);
    }
}

// Symmetric, the largest weight of an output 127; nearest.
inline void pack_panel_int8(const float* w, std::size_t rows, std::size_t columns, float* out) {
  const PackedPanel layout(Format::int8, columns);
  std::memset(out, 0, layout.floats * sizeof(float));
  auto* bytes = reinterpret_cast<unsigned char*>(out);
  const std::size_t block = k_block(columns, 4);
  for (std::size_t j = 0; j < rows; ++j) {
    const float* x = w + j * columns;
    float largest = 0.0f;
    for (std::size_t k = 0; k < columns; ++k) largest = std::max(largest, std::fabs(x[k]));
    const float scale = largest / 127.0f, inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    out[j] = scale;
    for (std::size_t k0 = 0; k0 < columns; k0 += block) {
      const std::size_t n = std::min(block, columns - k0);
      constexpr std::size_t most = 4 * block_depth;
      std::int8_t q[most] = {};
      std::int32_t sum = 0;
      for (std::size_t k = 0; k < n; ++k) {  // adding 1.5 * 2^23 rounds to the nearest whole number
        const float shifted = x[k0 + k] * inverse + 12582912.0f;
        const auto whole = static_cast<std::int32_t>(reinterpret_bits<std::uint32_t>(shifted) - 0x4B400000u);
        q[k] = static_cast<std::int8_t>(whole);
        sum += whole;
      }
      for (std::size_t k = 0; k < n; k += 4) std::memcpy(bytes + 4 * layout.word((k0 + k) / 4, j), q + k, 4);
      out[(1 + k0 / block) * tile_columns + j] = scale * static_cast<float>(sum);
    }
  }
}

}  // namespace detail

// Weights [rows][columns], row-major, for Operand::packed of this format. The order depends on the instruction set compiled for.
// packed: packed_floats(rows, columns, format), not overlapping w.
inline void pack_weights(const float* w, std::size_t rows, std::size_t columns, float* packed, Format format = Format::fp32) {
  using detail::tile_columns;
  const detail::PackedPanel layout(format, columns);
  if (format == Format::fp32 || (format == Format::bf16 && simd::has_dot_bf16)) {
    if (rows % tile_columns != 0)  // no column of the last panel stays undefined
      std::memset(packed + rows / tile_columns * layout.floats, 0, layout.floats * sizeof(float));
    if (format == Format::fp32) detail::pack_b_along<Format::fp32>(w, columns, rows, 0, columns, packed, layout.floats);
    else detail::pack_b_along<Format::bf16>(w, columns, rows, 0, columns, packed, layout.floats);
    return;
  }
  for (std::size_t j = 0; j < rows; j += tile_columns, packed += layout.floats) {
    const std::size_t n = std::min(tile_columns, rows - j);
    if (format == Format::bf16) detail::pack_panel_bf16(w + j * columns, n, columns, packed);
    else detail::pack_panel_int8(w + j * columns, n, columns, packed);
  }
}

// The inverse of pack_weights, up to the format's rounding.
inline void unpack_weights(const float* packed, std::size_t rows, std::size_t columns, float* w, Format format = Format::fp32) {
  const detail::PackedPanel layout(format, columns);
  for (std::size_t i = 0; i < rows; ++i) {
    const float* p = packed + i / detail::tile_columns * layout.floats;
    for (std::size_t k = 0; k < columns; ++k) w[i * columns + k] = layout.value(p, i % detail::tile_columns, k);
  }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
