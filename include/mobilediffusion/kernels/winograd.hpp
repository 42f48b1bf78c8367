// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of stride 1 by minimal filtering F(4x4, 3x3) and F(2x2, 3x3): Winograd 1980; Lavin and Gray, arXiv 1509.09308.
//
// A tile of inputs d, two pixels wider than its outputs, and the filter g give the outputs A^T ((G g G^T) . (B^T d B)) A: for 4x4
// outputs 36 multiplications for each pair of channels instead of 144, for 2x2 16 instead of 36. The products over channels are
// matrix products of their own, in any format; the transforms are fp32. Vectors lie along the channels.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "conv_plan.hpp"
#include "loops.hpp"
#include "matmul.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

inline constexpr std::size_t winograd_offset = Executor::scratch_floats - winograd_own;
static_assert(winograd_offset >= product_floats);

// B^T d for one column of Side + 2.
template <std::size_t Side>
inline void winograd_input(const simd::Batch* d, simd::Batch* t, std::size_t step) {
  if constexpr (Side == 2) {
    const simd::Batch d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];
    t[0] = d0 - d2;
    t[step] = d1 + d2;
    t[2 * step] = d2 - d1;
    t[3 * step] = d1 - d3;
  } else {
    const simd::Batch two = simd::splat(2.0f), four = simd::splat(4.0f), minus_four = simd::splat(-4.0f),
                      minus_five = simd::splat(-5.0f);
    const simd::Batch d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3], d4 = d[4], d5 = d[5];
    const simd::Batch a = simd::fma(minus_four, d2, d4), b = simd::fma(minus_four, d1, d3), c = d4 - d2, e = two * (d3 - d1);
    t[0] = simd::fma(four, d0, simd::fma(minus_five, d2, d4));
    t[step] = a + b;
    t[2 * step] = a - b;
    t[3 * step] = c + e;
    t[4 * step] = c - e;
    t[5 * step] = simd::fma(four, d1, simd::fma(minus_five, d3, d5));
  }
}

// A^T m for one column of Side + 2.
template <std::size_t Side>
inline void winograd_output(const simd::Batch* m, simd::Batch* t, std::size_t step) {
  if constexpr (Side == 2) {
    t[0] = m[0] + m[1] + m[2];
    t[step] = m[1] - m[2] - m[3];
  } else {
    const simd::Batch s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
    t[0] = m[0] + s1 + s2;
    t[step] = simd::fma(simd::splat(2.0f), d2, d1);
    t[2 * step] = simd::fma(simd::splat(4.0f), s2, s1);
    t[3 * step] = simd::fma(simd::splat(8.0f), d2, d1) + m[5];
  }
}

struct WinogradTile {
  std::size_t image, y, x;  // of the first output
  WinogradTile(const WinogradPlan& plan, std::size_t i)
      : image(i / plan.across / plan.down), y(i / plan.across % plan.down * plan.side), x(i % plan.across * plan.side) {}
};

// Where the pixels of a tile are; nullptr: beyond the image.
template <std::size_t Side>
struct WinogradPixels {
  static constexpr std::size_t n = Side + 2;
  const float* from[n * n];

  WinogradPixels(const float* x, const ConvGeometry& g, const WinogradTile& tile) {
    const std::size_t shift = g.upsample ? 1 : 0;
    for (std::size_t i = 0; i < n * n; ++i) {
      const std::size_t row = tile.y + i / n - 1, column = tile.x + i % n - 1;  // -1 wraps around: beyond the image
      from[i] = row < g.in_h << shift && column < g.in_w << shift
                    ? x + ((tile.image * g.in_h + (row >> shift)) * g.in_w + (column >> shift)) * g.channels
                    : nullptr;
    }
  }

  // put(point, value) of each point of B^T d B, for the channels from c on.
  template <class Lanes, class Put>
  [[gnu::always_inline]] void transform(const Lanes& lanes, std::size_t c, Put&& put) const {
    simd::Batch columns[n * n];  // [column][row]
    for (std::size_t j = 0; j < n; ++j) {
      simd::Batch d[n];
      for (std::size_t i = 0; i < n; ++i) d[i] = from[n * i + j] != nullptr ? lanes.load(from[n * i + j] + c) : simd::splat(0.0f);
      winograd_input<Side>(d, columns + j, n);
    }
    for (std::size_t i = 0; i < n; ++i) {
      simd::Batch t[n];
      winograd_input<Side>(columns + n * i, t, 1);
      for (std::size_t j = 0; j < n; ++j) put(n * i + j, t[j]);
    }
  }
};

// Of a pair of vectors at the end.
struct UpTo {
  std::size_t count;  // any, 0 too
  simd::Batch load(const float* p) const { return simd::load_at_most(p, count); }
};

// Whether inputs are kept in the panels that the products read: a half or a quarter of the memory, and packed once for all
// columns. Of 8 bits, two floats for each row follow a matrix's panels: what its bytes stand for.
template <Format F>
inline constexpr bool winograd_panels = pairing<F> > 1;
template <Format F>
constexpr std::size_t winograd_ranges(const WinogradPlan& plan, std::size_t channels) {
  return (plan.chunk + panel_rows<F> - 1) / panel_rows<F> * panel_floats<F>(channels);
}
static_assert(!winograd_panels<Format::bf16> || WinogradPlan::rows == panel_rows<Format::bf16> || on_tiles<Format::bf16>);

// The inputs of tile i of a chunk into v [points][in_point]: rows, or panels. work: points * channels floats for 8 bits.
template <std::size_t Side, Format F>
void winograd_gather(const WinogradPixels<Side>& pixels, std::size_t channels, const WinogradPlan& plan, std::size_t i, float* v,
                     [[maybe_unused]] float* work) {
  constexpr std::size_t points = (Side + 2) * (Side + 2);
  const std::size_t point = plan.in_point;
  if constexpr (F == Format::int8) {
    for_vectors(0, channels, [&](auto lanes, std::size_t c) {
      pixels.transform(lanes, c, [&](std::size_t p, simd::Batch value) { lanes.store(work + p * channels + c, value); });
    });
    float* out = v + panel_offset<F>(i, 0, panel_floats<F>(channels));
    float* range = v + winograd_ranges<F>(plan, channels) + 2 * i;
    ByteRange next(work, channels);
    for (std::size_t p = 0; p < points; ++p, out += point, range += point) {
      const ByteRange its = next;
      if (p + 1 < points) next = ByteRange(work + (p + 1) * channels, channels);
      range[0] = its.scale;
      range[1] = its.stored_low();
      its.store(work + p * channels, channels, out);
    }
  } else if constexpr (winograd_panels<F>) {
    constexpr std::size_t width = simd::width;
    const std::size_t panel = panel_floats<F>(channels);
    const auto pairs = [&](auto low, auto high, std::size_t c) {
      float* out = v + panel_offset<F>(i, c, panel);
      simd::Batch t[points];
      pixels.transform(low, c, [&](std::size_t p, simd::Batch value) { t[p] = value; });
      pixels.transform(high, c + width,
                       [&](std::size_t p, simd::Batch value) { store_a<F>(out + p * point, simd::pairs_along(t[p], value)); });
    };
    std::size_t c = 0;
    for (; c + 2 * width <= channels; c += 2 * width) pairs(FullVector{}, FullVector{}, c);
    if (c < channels) pairs(UpTo{channels - c}, UpTo{channels - c > width ? channels - c - width : 0}, c);
  } else {
    for_vectors(0, channels, [&](auto lanes, std::size_t c) {
      float* out = v + i * channels + c;
      pixels.transform(lanes, c, [&](std::size_t p, simd::Batch value) { lanes.store(out + p * point, value); });
    });
  }
}

// The tile's products m [points][out_point] back into outputs, with the epilogue.
template <std::size_t Side>
void winograd_scatter(const float* m, const ConvGeometry& g, std::size_t outputs, const WinogradPlan& plan,
                      const WinogradTile& tile, const Epilogue& e, float* y, bool stream) {
  constexpr std::size_t n = Side + 2;
  const std::size_t rows = std::min(Side, g.out_h - tile.y), columns = std::min(Side, g.out_w - tile.x);
  const std::size_t first = (tile.image * g.out_h + tile.y) * g.out_w + tile.x, point = plan.out_point;
  const float* bias =
      e.bias == nullptr ? nullptr : e.bias + (e.rows_per_bias == SIZE_MAX ? 0 : first / e.rows_per_bias * outputs);
  for_vectors(0, outputs, [&](auto lanes, std::size_t c) {
    simd::Batch half[Side * n];  // [row][column]
    for (std::size_t j = 0; j < n; ++j) {
      simd::Batch column[n];
      for (std::size_t i = 0; i < n; ++i) column[i] = lanes.load(m + (n * i + j) * point + c);
      winograd_output<Side>(column, half + j, n);
    }
    const simd::Batch b = bias != nullptr ? lanes.load(bias + c) : simd::splat(0.0f);
    for (std::size_t i = 0; i < rows; ++i) {
      simd::Batch t[Side];
      winograd_output<Side>(half + n * i, t, 1);
      const std::size_t pixel = first + i * g.out_w;
      float* out = y + pixel * outputs + c;
      for (std::size_t j = 0; j < columns; ++j) {
        simd::Batch value = t[j] + b;
        if (e.residual != nullptr) value = value + lanes.load(e.residual + (pixel + j) * e.residual_ld + c);
        if (e.accumulate) value = value + lanes.load(out + j * outputs);
        constexpr bool whole = std::is_same_v<std::decay_t<decltype(lanes)>, FullVector>;
        if (simd::can_stream && whole && stream) simd::stream(out + j * outputs, value);
        else lanes.store(out + j * outputs, value);
      }
    }
  });
}

// F: what the products over channels are computed in.
template <std::size_t Side, Format F>
void winograd(const Executor& ex, const float* x, const PackedFilters& w, float* y, const ConvGeometry& g,
              const Epilogue& epilogue, float* scratch) {
  const std::size_t outputs = w.outputs;
  const WinogradPlan plan(g, outputs, w.format);
  const std::size_t panels = (outputs + tile_columns - 1) / tile_columns;
  const bool stream = !epilogue.accumulate && epilogue.residual != y && streams(y, outputs, g.out_pixels() * outputs);
  const auto gather = [&](std::size_t t0, std::size_t begin, std::size_t end, float* v, float* work) {
    for (std::size_t i = begin; i < end; ++i) winograd_gather<Side, F>({x, g, {plan, t0 + i}}, g.channels, plan, i, v, work);
  };
  const auto product = [&](std::size_t point, std::size_t n, std::size_t panel0, std::size_t panel1, const float* v, float* m,
                           float* work) {
    Rectangle area{0, n, panel0 * tile_columns, 0};
    area.columns = std::min(outputs, panel1 * tile_columns) - area.column;
    if (area.columns == 0) return;
    const float* inputs = v + point * plan.in_point;
    const Operand a = winograd_panels<F> ? Operand::panels(inputs, n, g.channels, panel_floats<F>(g.channels),
                                                           inputs + winograd_ranges<F>(plan, g.channels))
                                         : Operand::dense(inputs, n, g.channels);
    const Operand b =
        Operand::packed(w.data + point * packed_floats(outputs, g.channels, w.format), outputs, g.channels, w.format);
    multiply<F>({n, outputs, g.channels, a, b, true, true, {m + point * plan.out_point, outputs}, {}, ex.cached_floats()}, area,
                work);
  };
  const auto scatter = [&](std::size_t t0, std::size_t begin, std::size_t end, const float* m) {
    for (std::size_t i = begin; i < end; ++i)
      winograd_scatter<Side>(m + i * outputs, g, outputs, plan, {plan, t0 + i}, epilogue, y, stream);
    if (stream) simd::stream_end();
  };

  if (plan.own) {
    ex.parallel_for(plan.tiles, 4, [&](std::size_t begin, std::size_t end, int thread) {
      const simd::Tiles registers(on_tiles<F>);
      float *const work = ex.scratch(thread), *const v = work + winograd_offset, *const m = v + plan.points * plan.in_point;
      for (std::size_t t0 = begin; t0 < end; t0 += plan.chunk) {
        const std::size_t n = std::min(plan.chunk, end - t0);
        gather(t0, 0, n, v, work);
        for (std::size_t point = 0; point < plan.points; ++point) product(point, n, 0, panels, v, m, work);
        scatter(t0, 0, n, m);
      }
    });
    return;
  }
  float *const v = scratch, *const m = scratch + plan.points * plan.in_point;
  const std::size_t parts = ex.threads() <= 2 ? 1 : 2;  // of the outputs, where there are many threads for the points
  for (std::size_t t0 = 0; t0 < plan.tiles; t0 += plan.chunk) {
    const std::size_t n = std::min(plan.chunk, plan.tiles - t0);
    ex.parallel_for(n, 4, [&](std::size_t begin, std::size_t end, int thread) { gather(t0, begin, end, v, ex.scratch(thread)); });
    ex.parallel_for(plan.points * parts, 1, [&](std::size_t begin, std::size_t end, int thread) {
      const simd::Tiles registers(on_tiles<F>);
      for (std::size_t i = begin; i < end; ++i)
        product(i / parts, n, panels * (i % parts) / parts, panels * (i % parts + 1) / parts, v, m, ex.scratch(thread));
    });
    ex.parallel_for(n, 4, [&](std::size_t begin, std::size_t end, int) { scatter(t0, begin, end, m); });
  }
}

}  // namespace detail

// Filters [outputs][3][3][channels] -> matrices G g G^T [outputs][channels], each as pack_weights makes it.
// packed: winograd_points(format) * packed_floats(outputs, channels, format); scratch: outputs * channels floats.
inline void pack_winograd(const float* w, std::size_t outputs, std::size_t channels, Format format, float* packed,
                          float* scratch) {
  constexpr float g4[6][3] = {{0.25f, 0.0f, 0.0f},
                              {-1.0f / 6, -1.0f / 6, -1.0f / 6},
                              {-1.0f / 6, 1.0f / 6, -1.0f / 6},
                              {1.0f / 24, 1.0f / 12, 1.0f / 6},
                              {1.0f / 24, -1.0f / 12, 1.0f / 6},
                              {0.0f, 0.0f, 1.0f}};
  constexpr float g2[4][3] = {{1.0f, 0.0f, 0.0f}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0.0f, 0.0f, 1.0f}};
  const std::size_t n = winograd_tile(format) + 2;
  const float(*g)[3] = n == 6 ? g4 : g2;
  for (std::size_t point = 0; point < n * n; ++point) {
    float factor[9];
    for (std::size_t i = 0; i < 9; ++i) factor[i] = g[point / n][i / 3] * g[point % n][i % 3];
    for (std::size_t o = 0; o < outputs; ++o) {
      const float* filter = w + o * 9 * channels;
      float* out = scratch + o * channels;
      for (std::size_t c = 0; c < channels; ++c) {
        float sum = 0.0f;
        for (std::size_t i = 0; i < 9; ++i) sum += factor[i] * filter[i * channels + c];
        out[c] = sum;
      }
    }
    pack_weights(scratch, outputs, channels, packed + point * packed_floats(outputs, channels, format), format);
  }
}

// y [batch][out_h][out_w][outputs] = x * w (+ epilogue over rows of out_pixels): 3x3, stride 1, one zero around the image, which
// may be doubled first. w: of pack_winograd. scratch: conv2d_scratch floats. Errors of fp32 are about 1e-5 of the outputs, 1e-4
// at most.
inline void conv2d_winograd(const Executor& ex, const float* x, const PackedFilters& w, float* y, const ConvGeometry& g,
                            const Epilogue& epilogue, float* scratch) {
  const auto run = [&](auto side, auto format) { detail::winograd<side(), format()>(ex, x, w, y, g, epilogue, scratch); };
  using two = std::integral_constant<std::size_t, 2>;
  using four = std::integral_constant<std::size_t, 4>;
  using F = Format;
  if (w.format == F::fp32) run(four{}, std::integral_constant<F, F::fp32>{});
  else if (w.format == F::bf16) run(two{}, std::integral_constant<F, F::bf16>{});
  else run(two{}, std::integral_constant < F, simd::has_dot_int8 ? F::int8 : F::fp32 > {});
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
