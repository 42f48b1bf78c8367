// SPDX-License-Identifier: Apache-2.0
// Matrix products of run-time size, inputs and outputs fp32, computed in fp32, bf16 or int8: one blocked driver for all
// transposes. Blocking after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008.
//
// K is never divided between threads and its blocks depend on K alone, so every element of C is the same sum in the same
// order on any number of threads.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "../core/error.hpp"
#include "../core/executor.hpp"
#include "../core/param.hpp"
#include "column_sums.hpp"
#include "loops.hpp"
#include "matmul_amx.hpp"
#include "matmul_pack.hpp"
#include "matmul_tile.hpp"
#include "operand.hpp"
#include "packed_weights.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

// Words of B in a block, which stays in the second-level cache (Executor::cached_floats): the most that a thread packs.
inline constexpr std::size_t block_words = 192 * 1024;
inline constexpr std::size_t most_columns = 768;
static_assert(most_columns % panel == 0 && block_depth % simd::width == 0);
// What a product takes of a thread's scratch.
inline constexpr std::size_t most_rows = std::max(panel_rows<Format::fp32>, panel_rows<Format::bf16>);
inline constexpr std::size_t product_floats =
    block_words + most_rows * block_depth + std::max(2 * most_columns, 2 * 4 * block_depth);
static_assert(product_floats <= Executor::scratch_floats);

// C, whose row i is an image's pixel (y, x) where a grid is given: pixels of every second row and column, for example.
struct Output {
  float* c = nullptr;
  std::size_t ld = 0;  // from row to row, or from x to x
  std::size_t grid_h = 0, grid_w = 0, y_step = 0, image_step = 0;
  bool stream = false;  // past the caches

  std::size_t offset(std::size_t i) const {
    if (grid_w == 0) return i * ld;
    return i / grid_w / grid_h * image_step + i / grid_w % grid_h * y_step + i % grid_w * ld;
  }
};

struct Product {
  std::size_t m, n, k;
  Operand a, b;
  bool a_along, b_along;  // whether the runs of A and B go along k
  Output c;
  Epilogue epilogue;
  std::size_t cached;  // floats of B in a block
};

struct Rectangle {
  std::size_t row, rows, column, columns;
};

template <Format F>
void multiply(const Product& p, const Rectangle& area, float* scratch) {
  using simd::width;
  constexpr std::size_t pair = pairing<F>, high = panel_rows<F>;
  const std::size_t block_k = k_block(p.k, pair);
  const Epilogue& e = p.epilogue;
  float* const b_panels = scratch;
  float* const a_panel = scratch + block_words;
  float* const buffer = a_panel + high * block_depth;
  const PackedPanel packed(p.b.format(), p.k);
  const bool in_place = p.b.is_packed() && !packed.expands;
  const std::size_t fitting = (in_place ? p.cached : std::min(p.cached, block_words)) / (block_k / pair);
  const std::size_t block_columns = std::max(panel, std::min(fitting, in_place ? SIZE_MAX : most_columns) / panel * panel);
  const std::size_t area_end = area.column + area.columns, row_end = area.row + area.rows;

  for (std::size_t n0 = area.column; n0 < area_end; n0 += block_columns) {
    const std::size_t columns = std::min(block_columns, area_end - n0);
    for (std::size_t k0 = 0; k0 == 0 || k0 < p.k; k0 += block_k) {
      const std::size_t k1 = std::min(p.k, k0 + block_k), depth = (k1 - k0 + pair - 1) / pair;
      const float* b = b_panels;
      std::size_t b_stride = b_depth<F>(depth) * tile_columns;
      if (in_place) {
        b_stride = packed.floats;
        b = p.b.data() + n0 / tile_columns * b_stride + packed.words_at(k0);
      } else if (p.b.is_packed()) {
        packed.expand(p.b.data() + n0 / tile_columns * packed.floats, columns, k0, k1, b_panels);
      } else if (p.b_along) {
        pack_b_along<F>(p.b.data() + n0 * p.b.ld(), p.b.ld(), columns, k0, k1, b_panels, b_stride);
      } else {
        pack_b_across<F>(p.b, n0, columns, k0, k1, b_panels, buffer);
      }
      const bool first = k0 == 0;
      for (std::size_t i = area.row; i < row_end; i += high) {
        const std::size_t rows = std::min(high, row_end - i);
        [[maybe_unused]] float a_scale[high], a_low[high];
        const float* a = a_panel;
        if (p.a.is_panels()) {
          a = p.a.data() + panel_offset<F>(i, k0, p.a.ld());
          if constexpr (F == Format::int8)
            for (std::size_t r = 0; r < rows; ++r) {
              a_scale[r] = p.a.ranges()[2 * (i + r)];
              a_low[r] = p.a.ranges()[2 * (i + r) + 1];
            }
        } else if constexpr (F == Format::int8) quantize_a_along(p.a, i, rows, k0, k1, a_panel, buffer, a_scale, a_low);
        else if (p.a_along) pack_a_along<F>(p.a, i, rows, k0, k1, a_panel, buffer);
        else pack_a_across<F>(p.a, i, rows, k0, k1, a_panel);
        std::size_t c_offset[high], bias_offset[high];
        for (std::size_t r = 0; r < rows; ++r) c_offset[r] = p.c.offset(i + r);
        if (first && e.bias != nullptr)
          for (std::size_t r = 0; r < rows; ++r)
            bias_offset[r] = e.rows_per_bias == SIZE_MAX ? 0 : (i + r) / e.rows_per_bias * p.n;
        Target t{};
        t.residual_ld = e.residual_ld;
        t.c_ld = p.c.grid_w == 0 ? p.c.ld : 0;
        t.add = !first || e.accumulate;
        t.stream = p.c.stream;
        // The next rows of A come nearer while this panel is multiplied, a few lines with every tile.
        const std::size_t next_rows = p.a_along && p.a.is_dense() ? std::min(high, row_end - i - rows) : 0;
        const std::size_t share = ((k1 - k0 + 15) / 16 * tile_columns + columns - 1) / columns * 16;
        const float* next = p.a.data() + (i + rows) * p.a.ld() + k0;
        for (std::size_t j = 0; j < columns; j += tile_columns, next += share) {
          for (std::size_t r = 0; r < next_rows; ++r)
            for (std::size_t l = 0; l < share; l += 16) __builtin_prefetch(next + r * p.a.ld() + l, 0, 2);
          t.c = p.c.c + n0 + j;
          t.columns = std::min(tile_columns, columns - j);
          if (first && e.bias != nullptr) t.bias = e.bias + n0 + j;
          if constexpr (F == Format::int8) {
            t.b_scale = p.b.data() + (n0 + j) / tile_columns * packed.floats;
            t.b_sum = t.b_scale + (1 + k0 / block_k) * tile_columns;
          }
          // `height` rows from row r on: all of the panel's at once where the processor has tiles.
          for (std::size_t r = 0, height; r < rows; r += height) {
            height = on_tiles<F> ? rows : tile_height(rows - r);
            t.c_offset = c_offset + r;
            t.bias_offset = bias_offset + r;
            if constexpr (F == Format::int8) {
              t.a_scale = a_scale + r;
              t.a_low = a_low + r;
            }
            if (first && e.residual != nullptr) t.residual = e.residual + (i + r) * e.residual_ld + n0 + j;
            const float* const b_panel = b + j / tile_columns * b_stride;
            if constexpr (on_tiles<F>) multiply_tiles<F>(rows, depth, a, b_panel, t);
            else tiles<F>[(t.columns + width - 1) / width - 1][height / 2](depth, a + a_offset<F>(r), b_panel, t);
          }
        }
      }
    }
  }
}

inline void multiply(Format format, const Product& p, const Rectangle& area, float* scratch) {
  if (format == Format::bf16) multiply<Format::bf16>(p, area, scratch);
  else if (format == Format::fp32) multiply<Format::fp32>(p, area, scratch);
  else if constexpr (simd::has_dot_int8) multiply<Format::int8>(p, area, scratch);
}

// Divides C among the threads: the grid whose largest rectangle costs least, packing included.
inline void run(const Executor& ex, Product p) {
  if (p.m == 0 || p.n == 0) return;
  const std::size_t panels = (p.n + tile_columns - 1) / tile_columns;
  std::size_t grid_m = 1, grid_n = 1;
  if (p.m * p.n * std::max<std::size_t>(p.k, 1) >= 512 * 1024) {
    double least = 0;
    const std::size_t threads = static_cast<std::size_t>(ex.threads());
    for (std::size_t tm = 1; tm <= std::min(threads, p.m); ++tm) {
      const std::size_t tn = std::min(threads / tm, panels);
      const double rows = static_cast<double>((p.m + tm - 1) / tm);
      const double columns = static_cast<double>((panels + tn - 1) / tn * tile_columns);
      // Vectors of products, and vectors of elements packed: copied in about 2 of their times, transposed in about 6; packed
      // weights come from memory.
      const double cost = rows * columns + rows * (p.a_along ? 2 : 6) + columns * (p.b.is_packed() ? 16 : p.b_along ? 6 : 2);
      if (tm == 1 || cost < least) {
        least = cost;
        grid_m = tm;
        grid_n = tn;
      }
    }
  }
  const Format format = p.b.is_packed()                     ? PackedPanel::computed_in(p.b.format())
                        : ex.precision() == Precision::bf16 ? Format::bf16
                                                            : Format::fp32;
  const bool once = p.k <= block_depth && !p.epilogue.accumulate && p.epilogue.residual != p.c.c;
  p.c.stream = once && p.c.grid_w == 0 && p.c.ld == p.n && streams(p.c.c, p.c.ld, p.m * p.n);
  ex.parallel_for(grid_m * grid_n, 1, [&](std::size_t begin, std::size_t end, int thread) {
    const simd::Tiles registers(format != Format::fp32);
    for (std::size_t part = begin; part < end; ++part) {
      const std::size_t im = part / grid_n, in = part % grid_n;
      Rectangle area{};
      area.row = p.m * im / grid_m;
      area.rows = p.m * (im + 1) / grid_m - area.row;
      area.column = panels * in / grid_n * tile_columns;
      area.columns = std::min(p.n, panels * (in + 1) / grid_n * tile_columns) - area.column;
      multiply(format, p, area, ex.scratch(thread));
    }
    if (p.c.stream) simd::stream_end();
  });
}

inline void expect(bool fits, const char* what, const Operand& o, std::size_t rows, std::size_t columns) {
  if (fits && o.rows() == rows && o.columns() == columns) return;
  throw Error(std::string(what) + ": expected a matrix of " + std::to_string(rows) + " x " + std::to_string(columns) +
              (fits ? ", found " : " of a kind that this product reads, found ") + std::to_string(o.rows()) + " x " +
              std::to_string(o.columns()));
}

}  // namespace detail

// C[M, N] = A[M, K] B[N, K]^T: a linear layer forward, x W^T. B is dense, or packed and then computed in its format.
// C has ldc floats from row to row. C may be the epilogue's residual; it must not overlap A or B.
inline void matmul_nt(const Executor& ex, std::size_t m, std::size_t n, std::size_t k, const Operand& a, const Operand& b,
                      float* c, std::size_t ldc, const Epilogue& epilogue = {}) {
  detail::expect(!a.is_packed(), "matmul_nt: A", a, m, k);
  detail::expect(b.is_dense() || b.is_packed(), "matmul_nt: B", b, n, k);
  detail::run(ex, {m, n, k, a, b, true, true, {c, ldc}, epilogue, ex.cached_floats()});
}

// C[M, N] = A[M, K] B[K, N]: the gradient with respect to a linear layer's input, dy W.
inline void matmul_nn(const Executor& ex, std::size_t m, std::size_t n, std::size_t k, const Operand& a, const Operand& b,
                      float* c, std::size_t ldc, const Epilogue& epilogue = {}) {
  detail::expect(!a.is_packed(), "matmul_nn: A", a, m, k);
  detail::expect(!b.is_packed(), "matmul_nn: B", b, k, n);
  detail::run(ex, {m, n, k, a, b, true, false, {c, ldc}, epilogue, ex.cached_floats()});
}

// C[M, N] = A[K, M]^T B[K, N]: the gradient with respect to weights, dy^T x. A is dense.
inline void matmul_tn(const Executor& ex, std::size_t m, std::size_t n, std::size_t k, const Operand& a, const Operand& b,
                      float* c, std::size_t ldc, const Epilogue& epilogue = {}) {
  detail::expect(a.is_dense(), "matmul_tn: A", a, k, m);
  detail::expect(!b.is_packed(), "matmul_tn: B", b, k, n);
  detail::run(ex, {m, n, k, a, b, false, false, {c, ldc}, epilogue, ex.cached_floats()});
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
