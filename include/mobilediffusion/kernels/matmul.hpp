// SPDX-License-Identifier: Apache-2.0
// Matrix products of run-time size, fp32 in memory, computed in fp32 or bf16: one blocked driver for all transposes.
// Blocking after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008.
//
// K is never divided between threads and its blocks depend on K alone, so every element of C is the same sum in the same
// order on any number of threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "../core/error.hpp"
#include "../core/executor.hpp"
#include "../core/param.hpp"
#include "column_sums.hpp"
#include "matmul_pack.hpp"
#include "matmul_tile.hpp"
#include "operand.hpp"

namespace mobilediffusion::kernels {

namespace detail {

// Words of K in a block: a panel of A stays in the first-level cache while the panels of B pass by.
inline constexpr std::size_t block_depth = 256;
// Words of B in a block, which stays in the second-level cache.
inline constexpr std::size_t block_words = 192 * 1024;
inline constexpr std::size_t block_columns = block_words / block_depth / panel * panel;
static_assert(block_depth % simd::width == 0);
static_assert(block_words + tile_rows * block_depth + 2 * block_columns + 2 * block_depth <= Executor::scratch_floats);

// C, whose row i is an image's pixel (y, x) where a grid is given: pixels of every second row and column, for example.
struct Output {
  float* c = nullptr;
  std::size_t ld = 0;  // from row to row, or from x to x
  std::size_t grid_h = 0, grid_w = 0, y_step = 0, image_step = 0;

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
};

struct Rectangle {
  std::size_t row, rows, column, columns;
};

template <Format F>
void multiply(const Product& p, const Rectangle& area, float* scratch) {
  using simd::width;
  constexpr std::size_t pair = pairing<F>, step = width * pair;
  const std::size_t words = (p.k + pair - 1) / pair, blocks = (words + block_depth - 1) / block_depth;
  const std::size_t block_k = blocks == 0 ? step : ((words + blocks - 1) / blocks + width - 1) / width * step;
  const Epilogue& e = p.epilogue;
  float* const b_panels = scratch;
  float* const a_panel = scratch + block_words;
  float* const buffer = a_panel + tile_rows * block_depth;
  const std::size_t area_end = area.column + area.columns, row_end = area.row + area.rows;

  for (std::size_t n0 = area.column; n0 < area_end; n0 += block_columns) {
    const std::size_t columns = std::min(block_columns, area_end - n0);
    for (std::size_t k0 = 0; k0 == 0 || k0 < p.k; k0 += block_k) {
      const std::size_t k1 = std::min(p.k, k0 + block_k), depth = (k1 - k0 + pair - 1) / pair;
      const float* b = b_panels;
      std::size_t b_stride = depth * tile_columns;
      if (p.b.is_packed()) {
        b_stride = p.k * tile_columns;
        b = p.b.data() + n0 / tile_columns * b_stride + k0 * tile_columns;
      } else if (p.b_along) {
        pack_b_along<F>(p.b.data() + n0 * p.b.ld(), p.b.ld(), columns, k0, k1, b_panels, b_stride);
      } else {
        pack_b_across<F>(p.b, n0, columns, k0, k1, b_panels, buffer);
      }
      const bool first = k0 == 0;
      for (std::size_t i = area.row; i < row_end; i += tile_rows) {
        const std::size_t rows = std::min(tile_rows, row_end - i);
        if (p.a_along) pack_a_along<F>(p.a, i, rows, k0, k1, a_panel, buffer);
        else pack_a_across<F>(p.a, i, rows, k0, k1, a_panel);
        std::size_t c_offset[tile_rows], bias_offset[tile_rows];
        for (std::size_t r = 0; r < rows; ++r) c_offset[r] = p.c.offset(i + r);
        if (first && e.bias != nullptr)
          for (std::size_t r = 0; r < rows; ++r)
            bias_offset[r] = e.rows_per_bias == SIZE_MAX ? 0 : (i + r) / e.rows_per_bias * p.n;
        Target t{};
        t.residual_ld = e.residual_ld;
        t.add = !first || e.accumulate;
        for (std::size_t j = 0; j < columns; j += tile_columns) {
          t.c = p.c.c + n0 + j;
          t.columns = std::min(tile_columns, columns - j);
          if (first && e.bias != nullptr) t.bias = e.bias + n0 + j;
          for (std::size_t r = 0, height; r < rows; r += height) {
            height = tile_height(rows - r);
            t.c_offset = c_offset + r;
            t.bias_offset = bias_offset + r;
            if (first && e.residual != nullptr) t.residual = e.residual + (i + r) * e.residual_ld + n0 + j;
            tiles<F>[(t.columns + width - 1) / width - 1][height / 2](depth, a_panel + r * width, b + j / tile_columns * b_stride,
                                                                      t);
          }
        }
      }
    }
  }
}

// Divides C among the threads: the grid whose largest rectangle costs least, packing included.
inline void run(const Executor& ex, const Product& p) {
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
      // Vectors of products, and vectors of elements packed: copied in about 2 of their times, transposed in about 6.
      const double cost = rows * columns + rows * (p.a_along ? 2 : 6) + columns * (p.b.is_packed() ? 0 : p.b_along ? 6 : 2);
      if (tm == 1 || cost < least) {
        least = cost;
        grid_m = tm;
        grid_n = tn;
      }
    }
  }
  const bool bf16 = ex.precision() == Precision::bf16 && !p.b.is_packed();
  ex.parallel_for(grid_m * grid_n, 1, [&](std::size_t begin, std::size_t end, int thread) {
    for (std::size_t part = begin; part < end; ++part) {
      const std::size_t im = part / grid_n, in = part % grid_n;
      Rectangle area{};
      area.row = p.m * im / grid_m;
      area.rows = p.m * (im + 1) / grid_m - area.row;
      area.column = panels * in / grid_n * tile_columns;
      area.columns = std::min(p.n, panels * (in + 1) / grid_n * tile_columns) - area.column;
      if (bf16) multiply<Format::bf16>(p, area, ex.scratch(thread));
      else multiply<Format::fp32>(p, area, ex.scratch(thread));
    }
  });
}

inline void expect(bool fits, const char* what, const Operand& o, std::size_t rows, std::size_t columns) {
  if (fits && o.rows() == rows && o.columns() == columns) return;
  throw Error(std::string(what) + ": expected a matrix of " + std::to_string(rows) + " x " + std::to_string(columns) +
              (fits ? ", found " : " of a kind that this product reads, found ") + std::to_string(o.rows()) + " x " +
              std::to_string(o.columns()));
}

}  // namespace detail

// C[M, N] = A[M, K] B[N, K]^T: a linear layer forward, x W^T. B is dense or packed; packed is computed in fp32.
// C has ldc floats from row to row. C may be the epilogue's residual; it must not overlap A or B.
inline void matmul_nt(const Executor& ex, std::size_t m, std::size_t n, std::size_t k, const Operand& a, const Operand& b,
                      float* c, std::size_t ldc, const Epilogue& epilogue = {}) {
  detail::expect(!a.is_packed(), "matmul_nt: A", a, m, k);
  detail::expect(b.is_dense() || b.is_packed(), "matmul_nt: B", b, n, k);
  detail::run(ex, {m, n, k, a, b, true, true, {c, ldc}, epilogue});
}

// C[M, N] = A[M, K] B[K, N]: the gradient with respect to a linear layer's input, dy W.
inline void matmul_nn(const Executor& ex, std::size_t m, std::size_t n, std::size_t k, const Operand& a, const Operand& b,
                      float* c, std::size_t ldc, const Epilogue& epilogue = {}) {
  detail::expect(!a.is_packed(), "matmul_nn: A", a, m, k);
  detail::expect(!b.is_packed(), "matmul_nn: B", b, k, n);
  detail::run(ex, {m, n, k, a, b, true, false, {c, ldc}, epilogue});
}

// C[M, N] = A[K, M]^T B[K, N]: the gradient with respect to weights, dy^T x. A is dense.
inline void matmul_tn(const Executor& ex, std::size_t m, std::size_t n, std::size_t k, const Operand& a, const Operand& b,
                      float* c, std::size_t ldc, const Epilogue& epilogue = {}) {
  detail::expect(a.is_dense(), "matmul_tn: A", a, k, m);
  detail::expect(!b.is_packed(), "matmul_tn: B", b, k, n);
  detail::run(ex, {m, n, k, a, b, false, false, {c, ldc}, epilogue});
}

// Floats of packed weights: what core/param.hpp reserves for a Matrix, whatever the instruction set's tile.
inline constexpr std::size_t packed_floats(std::size_t rows, std::size_t columns) {
  return (rows + panel - 1) / panel * panel * columns;
}
static_assert(panel % detail::tile_columns == 0);

// Weights [rows][columns], row-major, into panels [rows / tile][columns][tile] for Operand::packed: once, when they are bound.
// The order depends on the instruction set compiled for. packed: packed_floats(rows, columns), not overlapping w.
inline void pack_weights(const float* w, std::size_t rows, std::size_t columns, float* packed) {
  if (rows % detail::tile_columns != 0) {  // no column of the last panel stays undefined
    const std::size_t whole = rows / detail::tile_columns * detail::tile_columns * columns;
    std::memset(packed + whole, 0, detail::tile_columns * columns * sizeof(float));
  }
  detail::pack_b_along<detail::Format::fp32>(w, columns, rows, 0, columns, packed, detail::tile_columns * columns);
}

// The inverse of pack_weights.
inline void unpack_weights(const float* packed, std::size_t rows, std::size_t columns, float* w) {
  using detail::tile_columns;
  for (std::size_t i = 0; i < rows; ++i) {
    const float* p = packed + i / tile_columns * tile_columns * columns + i % tile_columns;
    for (std::size_t j = 0; j < columns; ++j) w[i * columns + j] = p[j * tile_columns];
  }
}

// Both in place: w has packed_floats(rows, columns), scratch rows * columns floats.
inline void pack_weights_in_place(float* w, std::size_t rows, std::size_t columns, float* scratch) {
  std::memcpy(scratch, w, rows * columns * sizeof(float));
  pack_weights(scratch, rows, columns, w);
}
inline void unpack_weights_in_place(float* w, std::size_t rows, std::size_t columns, float* scratch) {
  unpack_weights(w, rows, columns, scratch);
  std::memcpy(w, scratch, rows * columns * sizeof(float));
}

}  // namespace mobilediffusion::kernels
