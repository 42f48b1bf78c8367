// SPDX-License-Identifier: Apache-2.0
// The inner loops of the register tile on 64-bit ARM: by lane (rank-one updates out of whole vectors of A and B, no broadcast),
// and by blocks of 2x2 where an instruction multiplies two rows by two columns.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>

#include "../core/number_formats.hpp"
#include "../core/unroll.hpp"
#include "../simd/dot_bf16.hpp"
#include "../simd/dot_int8.hpp"

#if defined(__aarch64__)

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::detail {

// What sums of a kind are made of: vectors, and a row's lane times columns.
struct FloatSteps {
  using Sum = simd::Batch;
  [[gnu::always_inline]] static Sum zero() { return simd::splat(0.0f); }
  [[gnu::always_inline]] static Sum load(const float* p) { return simd::load(p); }
  template <int Lane>
  [[gnu::always_inline]] static Sum by_lane(Sum row, Sum columns, Sum sum) {
    return simd::fma_lane<Lane>(row, columns, sum);
  }
};
struct ByteSteps;
#if defined(__ARM_FEATURE_DOTPROD)
struct ByteSteps {
  using Sum = simd::Words;
  [[gnu::always_inline]] static Sum zero() { return simd::zero_words(); }
  [[gnu::always_inline]] static Sum load(const float* p) { return simd::load_words(p); }
  template <int Lane>
  [[gnu::always_inline]] static Sum by_lane(Sum row, Sum columns, Sum sum) {
    return simd::dot_int8_lane<Lane>(row, columns, sum);
  }
};
#endif

// sums[Rows][Vectors * 4] = a b over `depth` words of k. a: [depth][AStep], b: [depth][BStep]. The vector of a row that is alone
// reaches over the row's end.
template <class Steps, std::size_t AStep, std::size_t BStep, std::size_t Rows, std::size_t Vectors>
[[gnu::always_inline]] inline void multiply_by_lane(std::size_t depth, const float* a, const float* b,
                                                    typename Steps::Sum (&sums)[Rows][Vectors]) {
  using Sum = typename Steps::Sum;
  constexpr std::size_t width = simd::width;
  unroll_inlined<Rows * Vectors>([&](auto i) __attribute__((always_inline)) { sums[i / Vectors][i % Vectors] = Steps::zero(); });
  for (std::size_t k = 0; k < depth; ++k, a += AStep, b += BStep) {
    Sum right[Vectors];
    unroll_inlined<Vectors>([&](auto v) __attribute__((always_inline)) { right[v] = Steps::load(b + v * width); });
    unroll_inlined<(Rows + width - 1) / width>([&](auto quad) __attribute__((always_inline)) {
      constexpr std::size_t first = quad * width, lanes = Rows - first < width ? Rows - first : width;
      const Sum left = Steps::load(a + first);
      unroll_inlined<lanes * Vectors>([&](auto i) __attribute__((always_inline)) {
        constexpr std::size_t lane = i / Vectors, v = i % Vectors;
        sums[first + lane][v] = Steps::template by_lane<lane>(left, right[v], sums[first + lane][v]);
      });
    });
  }
}

// The same by blocks, depth rounded up to two words. a: [depth / 2][AStep / 2][2 rows][2 words], b: [depth / 2][BStep / 2][2
// columns][2 words].
template <class Steps, std::size_t AStep, std::size_t BStep, std::size_t Rows, std::size_t Vectors>
[[gnu::always_inline]] inline void multiply_by_blocks(std::size_t depth, const float* a, const float* b,
                                                      typename Steps::Sum (&sums)[Rows][Vectors]) {
  using Sum = typename Steps::Sum;
  constexpr std::size_t width = simd::width, pairs = (Rows + 1) / 2, columns = 2 * Vectors;
  Sum blocks[pairs * columns];
  unroll_inlined<pairs * columns>([&](auto i) __attribute__((always_inline)) { blocks[i] = Steps::zero(); });
  for (std::size_t k = 0; k < depth; k += 2, a += 2 * AStep, b += 2 * BStep) {
    Sum right[columns];
    unroll_inlined<columns>([&](auto c) __attribute__((always_inline)) { right[c] = Steps::load(b + c * width); });
    unroll_inlined<pairs>([&](auto p) __attribute__((always_inline)) {
      if constexpr (p % 2 == 0) simd::load_later(a);
      const Sum left = Steps::load(a + p * width);
      unroll_inlined<columns>([&](auto c) __attribute__((always_inline)) {
        blocks[p * columns + c] = simd::block(left, right[c], blocks[p * columns + c]);
      });
    });
  }
  unroll_inlined<Rows * Vectors>([&](auto i) __attribute__((always_inline)) {
    constexpr std::size_t row = i / Vectors, v = i % Vectors, first = row / 2 * columns + 2 * v;
    if constexpr (row % 2 == 0) sums[row][v] = simd::upper_row(blocks[first], blocks[first + 1]);
    else sums[row][v] = simd::lower_row(blocks[first], blocks[first + 1]);
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::detail

#endif

#include "../core/end.hpp"
