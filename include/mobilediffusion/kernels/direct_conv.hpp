// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of stride 1 without patches: for few channels, where Winograd's transforms or the copies of patches would take
// longer than the products. A region of the picture becomes the words of the dot products once (int8: in the region's own range),
// and the register tile takes neighbouring pixels as its rows, where they lie.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "conv_plan.hpp"
#include "loops.hpp"
#include "matmul.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

// Words of a pixel that lie side by side, so that the rows of a tile are at constant distances.
inline constexpr std::size_t direct_words = 8;

// Whether this instruction set goes this way in a format: it has dot products of broadcast words, and none that are quicker
// (AMX's of bf16; ARM's take other words).
#if defined(__x86_64__) || defined(__i386__)
template <Format F>
inline constexpr bool has_direct = F == Format::int8   ? simd::has_dot_int8
                                   : F == Format::bf16 ? simd::has_dot_bf16 && !simd::has_tiles
                                                       : false;
#else
template <Format F>
inline constexpr bool has_direct = false;
#endif
inline constexpr bool runs_direct(Format f) {
  return f == Format::int8 ? has_direct<Format::int8> : f == Format::bf16 ? has_direct<Format::bf16> : false;
}
// Channels must fill the words that lie side by side.
inline constexpr bool fits_direct(std::size_t channels, Format f) {
  return channels % (direct_words * (f == Format::int8 ? 4 : 2)) == 0;
}

// Regions of outputs (of an up-sampled picture: of input pixels), the same on any number of threads. Their words stay in the
// first-level cache.
struct DirectPlan {
  static constexpr std::size_t columns = 2 * tile_rows, most_rows = 16, words = 6 * 1024;
  std::size_t height, width, rows, down, across;

  DirectPlan(std::size_t h, std::size_t w, std::size_t pixel_words)
      : height(h),
        width(w),
        rows(std::clamp<std::size_t>(words / (pixel_words * (columns + 2)), 4, most_rows + 2) - 2),
        down((h + rows - 1) / rows),
        across((w + columns - 1) / columns) {}
};

// The pixels of a region and one around it, as words [channels / side by side][rows + 2][columns + 2][direct_words].
struct DirectRegion {
  std::size_t image, y, x, rows, columns;  // of outputs
  float scale = 0.0f, low = 0.0f;          // int8: a value is scale q + low

  DirectRegion(const DirectPlan& plan, std::size_t i)
      : image(i / plan.across / plan.down),
        y(i / plan.across % plan.down * plan.rows),
        x(i % plan.across * plan.columns),
        rows(std::min(plan.rows, plan.height - y)),
        columns(std::min(plan.columns, plan.width - x)) {}
  std::size_t wide() const { return columns + 2; }
  std::size_t pixels() const { return (rows + 2) * wide(); }
  // Row i and column j of them in the picture x; nullptr: beyond it.
  const float* pixel(const float* from, const ConvGeometry& g, std::size_t i, std::size_t j) const {
    const std::size_t row = y + i - 1, column = x + j - 1;  // -1 wraps around
    return row < g.in_h && column < g.in_w ? from + ((image * g.in_h + row) * g.in_w + column) * g.channels : nullptr;
  }
};

template <Format F>
void load_region(const float* x, const ConvGeometry& g, DirectRegion& region, float* out) {
  using simd::Batch;
  using simd::width;
  const std::size_t pixels = region.pixels(), channels = g.channels;
  const auto each = [&](auto&& f) __attribute__((always_inline)) {  // f(index, pixel or nullptr)
    const std::size_t wide = region.wide(), left = region.x == 0 ? 1 : 0, right = std::min(wide, g.in_w + 1 - region.x);
    for (std::size_t i = 0, at = 0; i < region.rows + 2; ++i) {
      const float* p = region.pixel(x, g, i, left);  // nullptr: so is the whole row
      for (std::size_t j = 0; j < wide; ++j, ++at) {
        const bool inside = p != nullptr && j >= left && j < right;
        f(at, inside ? p : nullptr);
        if (inside) p += channels;
      }
    }
  };
  if constexpr (F == Format::int8) {
    Batch least = simd::splat(0.0f), most = least;
    each([&](std::size_t, const float* p) {
      if (p == nullptr) return;
      for (std::size_t c = 0; c < channels; c += width) {
        const Batch v = simd::load(p + c);
        least = simd::min(least, v);
        most = simd::max(most, v);
      }
    });
    // Zero is a whole step, so that what lies beyond the picture is exact.
    const float low = simd::minimum(least), range = simd::maximum(most) - low, inverse = range > 0.0f ? 255.0f / range : 0.0f;
    const float zero = std::floor(0.5f - low * inverse);
    region.scale = range * (1.0f / 255.0f);
    region.low = -zero * region.scale;
    const Batch by = simd::splat(inverse), from = simd::splat(zero);
    each([&](std::size_t at, const float* p) {
      for (std::size_t c = 0; c < channels; c += width) {
        constexpr std::size_t side = 4 * direct_words;
        auto* bytes = reinterpret_cast<std::uint8_t*>(out + (c / side * pixels + at) * direct_words) + c % side;
        simd::store_bytes(bytes, p != nullptr ? simd::fma(simd::load(p + c), by, from) : from);
      }
    });
  } else {
    each([&](std::size_t at, const float* p) {
      for (std::size_t c = 0; c < channels; c += 2 * width) {
        alignas(64) float words[width] = {};
        if (p != nullptr) simd::store(words, words_along<F>(p + c, channels - c));
        for (std::size_t w = 0; w < width && c + 2 * w < channels; w += direct_words)
          std::copy_n(words + w, direct_words, out + ((c / 2 + w) / direct_words * pixels + at) * direct_words);
      }
    });
  }
}

// Where a tile reads: filters are taps x taps; blocks of direct_words are `pixels` apart in the region and rows of it `wide`.
struct DirectSource {
  std::size_t taps, blocks, wide, pixels;
};

// a: of the first tap and pixel. b: [taps][taps][blocks * direct_words][tile_columns].
template <Format F, std::size_t Rows, std::size_t Vectors>
void direct_tile(const DirectSource& s, const float* a, const float* b, const Target& t) {
  using simd::Batch;
  constexpr std::size_t width = simd::width;
  const auto sweep = [&](auto& sums, auto load, auto splat, auto dot) __attribute__((always_inline)) {
    using Sum = std::remove_reference_t<decltype(sums[0][0])>;
    for (std::size_t block = 0; block < s.blocks; ++block)
      for (std::size_t ty = 0; ty < s.taps; ++ty)
        for (std::size_t tx = 0; tx < s.taps; ++tx) {
          const float* pa = a + (block * s.pixels + ty * s.wide + tx) * direct_words;
          const float* pb = b + ((ty * s.taps + tx) * s.blocks + block) * direct_words * tile_columns;
          for (std::size_t w = 0; w < direct_words; ++w, ++pa, pb += tile_columns) {
            Sum row[Vectors];
#pragma GCC unroll 2
            for (std::size_t v = 0; v < Vectors; ++v) row[v] = load(pb + v * width);
#pragma GCC unroll 16
            for (std::size_t r = 0; r < Rows; ++r) {
              const Sum x = splat(pa + r * direct_words);
#pragma GCC unroll 2
              for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] = dot(x, row[v], sums[r][v]);
            }
          }
        }
  };
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Rows; ++r) {  // read or written a whole tile later
    for (std::size_t v = 0; v < Vectors * width; v += 16) {
      if (!can_stream<Rows, Vectors> || !t.stream) __builtin_prefetch(t.c + t.c_offset[r] + v, 1);
      if (t.residual != nullptr) __builtin_prefetch(t.residual + r * t.residual_ld + v);
    }
  }
  Batch acc[Rows][Vectors];
  if constexpr (F == Format::int8) {
    simd::Words sums[Rows][Vectors];
#pragma GCC unroll 16
    for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
      for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] = simd::zero_words();
    sweep(sums, simd::load_words, simd::splat_word, simd::dot_int8);
    to_floats(sums, acc, t);
  } else {
#pragma GCC unroll 16
    for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
      for (std::size_t v = 0; v < Vectors; ++v) acc[r][v] = simd::splat(0.0f);
    sweep(
        acc, simd::load, [](const float* p) { return simd::splat(*p); }, simd::dot_bf16);
  }
  finish(acc, t);
}

using DirectFunction = void (*)(const DirectSource&, const float*, const float*, const Target&);
template <Format F, std::size_t Vectors, std::size_t... Half>
constexpr std::array<DirectFunction, sizeof...(Half)> direct_tiles_of(std::index_sequence<Half...>) {
  return {&direct_tile < F, Half == 0 ? 1 : 2 * Half, Vectors > ...};
}
// [vectors - 1][height / 2]
template <Format F>
inline constexpr std::array<std::array<DirectFunction, tile_rows / 2 + 1>, tile_vectors> direct_tiles{
    direct_tiles_of<F, 1>(std::make_index_sequence<tile_rows / 2 + 1>{}),
    direct_tiles_of<F, 2>(std::make_index_sequence<tile_rows / 2 + 1>{})};

// y = x * w + epilogue, w as pack_weights() makes it of [outputs][3][3][channels]; upsampled: four of [outputs][2][2][channels],
// one for each parity of the output's rows and columns.
template <Format F>
void conv2d_direct(const Executor& ex, const float* x, const PackedFilters& w, float* y, const ConvGeometry& g,
                   const Epilogue& e) {
  const std::size_t outputs = w.outputs, taps = g.upsample ? 2 : 3, phases = g.upsample ? 4 : 1, times = g.upsample ? 2 : 1;
  const std::size_t k = taps * taps * g.channels, pixel_words = g.channels / pairing<F>;
  const DirectPlan plan(g.in_h, g.in_w, pixel_words);
  const PackedPanel packed(F, k);
  const std::size_t sums = (packed.header == 0 ? 0 : packed.header / tile_columns - 1);
  const bool stream = !e.accumulate && e.residual != y && streams(y, outputs, g.out_pixels() * outputs);
  ex.parallel_for(g.batch * plan.down * plan.across, 1, [&](std::size_t begin, std::size_t end, int thread) {
    float* const words = ex.scratch(thread);
    for (std::size_t i = begin; i < end; ++i) {
      DirectRegion region(plan, i);
      load_region<F>(x, g, region, words);
      // The pixels of the next region come nearer with every tile: they lie in pieces too short for the processor to foresee.
      const DirectRegion next(plan, std::min(i + 1, end - 1));
      const std::size_t tiles =
          phases * region.rows * ((region.columns + tile_rows - 1) / tile_rows) * ((outputs + tile_columns - 1) / tile_columns);
      const std::size_t share = i + 1 < end ? (next.pixels() + tiles - 1) / tiles : 0;
      std::size_t coming = 0, coming_row = 0, coming_column = 0;
      const std::size_t wide = region.wide();
      const DirectSource source{taps, pixel_words / direct_words, wide, region.pixels()};
      float scale[tile_rows], low[tile_rows];
      std::size_t bias_offset[tile_rows], c_offset[tile_rows];
      const std::size_t first = (region.image * g.out_h + times * region.y) * g.out_w + times * region.x;
      for (std::size_t r = 0; r < tile_rows; ++r) {
        scale[r] = region.scale;
        low[r] = region.low;
        bias_offset[r] = e.bias == nullptr || e.rows_per_bias == SIZE_MAX ? 0 : first / e.rows_per_bias * outputs;
        c_offset[r] = r * times * outputs;
      }
      for (std::size_t phase = 0; phase < phases; ++phase) {
        const std::size_t down = phase / 2, right = phase % 2;
        const float* panel = w.data + phase * packed_floats(outputs, k, F);
        for (std::size_t n = 0; n < outputs; n += tile_columns, panel += packed.floats) {
          alignas(64) float b_sum[tile_columns] = {};
          Target t{};
          t.c_offset = c_offset;
          t.bias_offset = bias_offset;
          t.columns = std::min(tile_columns, outputs - n);
          t.add = e.accumulate;
          t.stream = stream;
          if (e.bias != nullptr) t.bias = e.bias + n;
          t.residual_ld = e.residual_ld;
          t.a_scale = scale;
          t.a_low = low;
          t.b_scale = panel;
          t.b_sum = b_sum;
          for (std::size_t s = 0; s < sums; ++s)
            for (std::size_t j = 0; j < tile_columns; ++j) b_sum[j] += panel[(1 + s) * tile_columns + j];
          const auto& functions = direct_tiles<F>[(t.columns + simd::width - 1) / simd::width - 1];
          for (std::size_t row = 0; row < region.rows; ++row)
            for (std::size_t column = 0, height; column < region.columns; column += height) {
              height = tile_height(region.columns - column);
              const std::size_t pixel = first + (times * row + down) * g.out_w + times * column + right;
              t.c = y + pixel * outputs + n;
              if (e.residual != nullptr) t.residual = e.residual + pixel * e.residual_ld + n;
              for (const std::size_t stop = std::min(coming + share, next.pixels()); coming < stop; ++coming) {
                if (const float* p = next.pixel(x, g, coming_row, coming_column); p != nullptr)
                  for (std::size_t c = 0; c < g.channels; c += 16) __builtin_prefetch(p + c, 0, 2);
                if (++coming_column < next.wide()) continue;
                coming_column = 0;
                ++coming_row;
              }
              functions[height / 2](source, words + ((row + down) * wide + column + right) * direct_words, panel + packed.header,
                                    t);
            }
        }
      }
    }
    if (stream) simd::stream_end();
  });
}

inline void conv2d_direct(const Executor& ex, const float* x, const PackedFilters& w, float* y, const ConvGeometry& g,
                          const Epilogue& e) {
  if constexpr (has_direct<Format::int8>)
    if (w.format == Format::int8) conv2d_direct<Format::int8>(ex, x, w, y, g, e);
  if constexpr (has_direct<Format::bf16>)
    if (w.format == Format::bf16) conv2d_direct<Format::bf16>(ex, x, w, y, g, e);
}

}  // namespace detail

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
