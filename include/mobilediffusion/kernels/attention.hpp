// SPDX-License-Identifier: Apache-2.0
// Multi-head attention, blocked over queries and keys so that the matrix of scores never exists.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>

#include "../core/activation.hpp"
#include "../core/error.hpp"
#include "../core/executor.hpp"
#include "../core/unroll.hpp"
#include "../simd/dot_bf16.hpp"
#include "arguments.hpp"
#include "attention_arm.hpp"
#include "matmul_amx.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

namespace detail {

// Queries are the vector lanes of the scores: the maxima and sums of softmax need no horizontal step, and any number of
// keys (24, 77) is free of padding.
inline constexpr std::size_t attention_queries = 64, attention_most_queries = 256, attention_keys = 128,
                             attention_max_head_dim = 512;
inline constexpr float attention_masked = std::numeric_limits<float>::lowest() / 2;  // finite: no inf - inf on the way to exp
// Vectors of queries whose softmax is made together: as many as leave registers for what the power takes. Lanes are such groups.
inline constexpr std::size_t attention_lane_vectors = 2;
static_assert(attention_queries % (attention_lane_vectors * simd::width) == 0);

inline constexpr std::size_t attention_lanes(std::size_t n) {
  constexpr std::size_t group = attention_lane_vectors * simd::width;
  return (n + group - 1) / group * group;
}
inline constexpr std::size_t attention_padded(std::size_t n) { return (n + simd::width - 1) / simd::width * simd::width; }

// Rows of a register tile: 8 x 2 accumulators where there are 32 vector registers, 4 x 2 where there are 16.
#if defined(__aarch64__)
inline constexpr std::size_t attention_tile_rows = 8;
#else
inline constexpr std::size_t attention_tile_rows = simd::width >= 16 ? 8 : 4;
#endif

// c[Rows][Vectors * width] (+)= sum over p < depth of a[r * a_row + p * a_step] * b[p * b_ld + ...]; Pairs: of words of two bf16.
template <bool Pairs, std::size_t Rows, std::size_t Vectors>
inline void attention_tile(std::size_t depth, const float* a, std::size_t a_row, std::size_t a_step, const float* b,
                           std::size_t b_ld, float* c, std::size_t c_ld, bool accumulate) {
  simd::Batch sum[Rows * Vectors];
  unroll_inlined<Rows * Vectors>([&](auto i) __attribute__((always_inline)) {
    sum[i] = accumulate ? simd::load(c + i / Vectors * c_ld + i % Vectors * simd::width) : simd::splat(0.0f);
  });
  for (std::size_t p = 0; p < depth; ++p, a += a_step, b += b_ld) {
    simd::Batch right[Vectors];
    unroll_inlined<Vectors>([&](auto j) __attribute__((always_inline)) { right[j] = simd::load(b + j * simd::width); });
    unroll_inlined<Rows>([&](auto r) __attribute__((always_inline)) {
      const simd::Batch left = simd::splat(a[r * a_row]);
      unroll_inlined<Vectors>([&](auto j) __attribute__((always_inline)) {
        if constexpr (Pairs) sum[r * Vectors + j] = simd::dot_bf16(left, right[j], sum[r * Vectors + j]);
        else sum[r * Vectors + j] = simd::fma(left, right[j], sum[r * Vectors + j]);
      });
    });
  }
  unroll_inlined<Rows * Vectors>([&](auto i) __attribute__((always_inline)) {
    simd::store(c + i / Vectors * c_ld + i % Vectors * simd::width, sum[i]);
  });
}

template <bool Pairs, std::size_t Rows, std::size_t Vectors>
inline void attention_panel(std::size_t rows, std::size_t depth, const float* a, std::size_t a_row, std::size_t a_step,
                            const float* b, std::size_t b_ld, float* c, std::size_t c_ld, bool accumulate) {
  std::size_t r = 0;
  for (; r + Rows <= rows; r += Rows)
    attention_tile<Pairs, Rows, Vectors>(depth, a + r * a_row, a_row, a_step, b, b_ld, c + r * c_ld, c_ld, accumulate);
  if constexpr (Rows > 1)
    if (r < rows)
      attention_panel<Pairs, Rows / 2, Vectors>(rows - r, depth, a + r * a_row, a_row, a_step, b, b_ld, c + r * c_ld, c_ld,
                                                accumulate);
}

// c[rows][columns] (+)= A b with A(r, p) = a[r * a_row + p * a_step] and b[depth][columns]; columns: a multiple of the width.
template <bool Pairs = false>
inline void attention_product(std::size_t rows, std::size_t columns, std::size_t depth, const float* a, std::size_t a_row,
                              std::size_t a_step, const float* b, std::size_t b_ld, float* c, std::size_t c_ld, bool accumulate) {
  std::size_t j = 0;
  for (; j + 2 * simd::width <= columns; j += 2 * simd::width)
    attention_panel<Pairs, attention_tile_rows, 2>(rows, depth, a, a_row, a_step, b + j, b_ld, c + j, c_ld, accumulate);
  if (j < columns)
    attention_panel<Pairs, attention_tile_rows, 1>(rows, depth, a, a_row, a_step, b + j, b_ld, c + j, c_ld, accumulate);
}

// to[column][0..padded) = factor * from[0..rows)[column], zero beyond the rows.
inline void attention_transpose(const float* from, std::size_t from_ld, std::size_t rows, std::size_t columns, float factor,
                                float* to, std::size_t padded) {
  std::size_t i = 0;
  for (; i + 8 <= rows; i += 8) {  // eight rows at once: each store of a cache line is met eight times while it is near
    const float* f = from + i * from_ld;
    for (std::size_t c = 0; c < columns; ++c)
      for (std::size_t r = 0; r < 8; ++r) to[c * padded + i + r] = factor * f[r * from_ld + c];
  }
  for (; i < padded; ++i)
    for (std::size_t c = 0; c < columns; ++c) to[c * padded + i] = i < rows ? factor * from[i * from_ld + c] : 0.0f;
}

struct AttentionRows {
  const float* data;
  std::size_t ld;
};
// Rows that may be read in whole vectors: in place where the head dimension allows it, else a zero-padded copy.
inline AttentionRows attention_rows(const float* from, std::size_t ld, std::size_t rows, std::size_t columns, float* copy) {
  const std::size_t padded = attention_padded(columns);
  if (padded == columns) return {from, ld};
  for (std::size_t r = 0; r < rows; ++r) {
    std::copy_n(from + r * ld, columns, copy + r * padded);
    std::fill_n(copy + r * padded + columns, padded - columns, 0.0f);
  }
  return {copy, padded};
}

// Rows of floats into words of two bf16 that follow each other in a row: to [rows][ld], returns the words of a row.
inline std::size_t attention_pairs_along(const float* from, std::size_t from_ld, std::size_t rows, std::size_t columns, float* to,
                                         std::size_t ld) {
  constexpr std::size_t width = simd::width;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; c += 2 * width) {
      const float* p = from + r * from_ld + c;
      const std::size_t n = columns - c;
      simd::store(to + r * ld + c / 2,
                  simd::pairs_along(simd::load_at_most(p, n), simd::load_at_most(p + width, n > width ? n - width : 0)));
    }
  return (columns + 1) / 2;
}
// Two rows of floats into one of words: to [(rows + 1) / 2][to_ld], zeros beyond the rows.
inline void attention_pairs_across(const float* from, std::size_t from_ld, std::size_t rows, std::size_t columns, float* to,
                                   std::size_t to_ld) {
  for (std::size_t r = 0; r < rows; r += 2)
    for (std::size_t c = 0; c < columns; c += simd::width) {
      const float* p = from + r * from_ld + c;
      const simd::Batch second = r + 1 < rows ? simd::load_at_most(p + from_ld, columns - c) : simd::splat(0.0f);
      simd::store(to + r / 2 * to_ld + c, simd::pairs_across(simd::load_at_most(p, columns - c), second));
    }
}

// factor * from[rows][columns] as words of two bf16 that follow each other in a row, turned: to[words][padded], zeros beyond the
// rows. Returns the words.
inline std::size_t attention_turned_pairs(const float* from, std::size_t from_ld, std::size_t rows, std::size_t columns,
                                          float factor, float* to, std::size_t padded) {
  using simd::width;
  const std::size_t words = (columns + 1) / 2;
  const simd::Batch by = simd::splat(factor);
  for (std::size_t i = 0; i < padded; i += width)
    for (std::size_t c = 0; c < columns; c += 2 * width) {
      const std::size_t n = columns - c;
      simd::Batch t[width];
      for (std::size_t r = 0; r < width; ++r) {
        const float* p = from + (i + r) * from_ld + c;
        t[r] = i + r >= rows ? simd::splat(0.0f)
                             : simd::pairs_along(by * simd::load_at_most(p, n),
                                                 by * simd::load_at_most(p + width, n > width ? n - width : 0));
      }
      simd::transpose(t);
      for (std::size_t w = 0; w < width && c / 2 + w < words; ++w) simd::store(to + (c / 2 + w) * padded + i, t[w]);
    }
  return words;
}

// Of each lane's query so far: the largest score and the sum of weights; and by what the last keys have made the earlier smaller.
struct AttentionSums {
  float *maximum, *total, *rescale;
};

// Scores [keys][lanes] into weights: exp(score - maximum), and what they change of the running sums; or positive scores alone.
// Pairs: the scores are exponents of two, and the weights of two keys make one word [(keys + 1) / 2][lanes], zero beyond them.
template <bool Pairs>
void attention_weights(bool softmax, float* scores, std::size_t lanes, std::size_t keys, bool first, const AttentionSums& s) {
  using simd::Batch;
  constexpr std::size_t width = simd::width, vectors = attention_lane_vectors;
  const auto power = [](Batch x) { return Pairs ? simd::exp2_for_bf16(x) : simd::exp(x); };
  for (std::size_t i = 0; i < lanes; i += vectors * width) {
    float* const column = scores + i;
    Batch m[vectors], sum[vectors];
    for (std::size_t v = 0; v < vectors; ++v) m[v] = softmax ? simd::load(column + v * width) : simd::splat(0.0f);
    for (std::size_t j = 1; softmax && j < keys; ++j)
      for (std::size_t v = 0; v < vectors; ++v) m[v] = simd::max(m[v], simd::load(column + j * lanes + v * width));
    for (std::size_t v = 0; v < vectors; ++v) {
      sum[v] = simd::splat(0.0f);
      if (!softmax || first) continue;
      const Batch before = simd::load(s.maximum + i + v * width);
      m[v] = simd::max(m[v], before);
      simd::store(s.rescale + i + v * width, power(before - m[v]));
    }
    const auto weights = [&](auto weight) __attribute__((always_inline)) {
      for (std::size_t j = 0; j < keys; j += Pairs ? 2 : 1)
        for (std::size_t v = 0; v < vectors; ++v) {
          const float* score = column + j * lanes + v * width;
          const Batch even = weight(simd::load(score), v);
          if constexpr (Pairs && simd::has_dot_bf16) {  // the place of a score that has been read
            const Batch odd = j + 1 < keys ? weight(simd::load(score + lanes), v) : simd::splat(0.0f);
            simd::store(column + j / 2 * lanes + v * width, simd::pairs_across(even, odd));
          } else {
            simd::store(column + j * lanes + v * width, even);
          }
        }
    };
    if (!softmax) {
      weights([&](Batch score, std::size_t v) { return simd::max(score, m[v]); });
      continue;
    }
    weights([&](Batch score, std::size_t v) __attribute__((always_inline)) {
      const Batch p = power(score - m[v]);
      sum[v] = sum[v] + p;
      return p;
    });
    for (std::size_t v = 0; v < vectors; ++v) {
      simd::store(s.maximum + i + v * width, m[v]);
      // One rounding, so that no compiler chooses: results may not depend on how many vectors pass together.
      if (!first) sum[v] = simd::fma(simd::load(s.total + i + v * width), simd::load(s.rescale + i + v * width), sum[v]);
      simd::store(s.total + i + v * width, sum[v]);
    }
  }
}

// Up to the next whole tile of the processor's, words of k follow that are zero on both sides.
inline constexpr std::size_t attention_tiled(std::size_t words) {
  return simd::has_tiles ? (words + simd::tile_side - 1) / simd::tile_side * simd::tile_side : words;
}
// from [rows][ld] to [columns][attention_tiled(rows)], words; columns: a multiple of the width.
inline void attention_turn(const float* from, std::size_t ld, std::size_t rows, std::size_t columns, float* to) {
  using simd::width;
  const std::size_t tiled = attention_tiled(rows);
  for (std::size_t i = 0; i < rows; i += width)
    for (std::size_t j = 0; j < columns; j += width) {
      simd::Batch t[width];
      for (std::size_t r = 0; r < width; ++r) t[r] = i + r < rows ? simd::load(from + (i + r) * ld + j) : simd::splat(0.0f);
      simd::transpose(t);
      for (std::size_t c = 0; c < width; ++c) simd::store(to + (j + c) * tiled + i, t[c]);
    }
}

// Query first + i does not see keys later than itself: their scores become value.
inline void attention_mask(float* scores, std::size_t ld, std::size_t first_query, std::size_t queries, std::size_t first_key,
                           std::size_t keys, float value) {
  for (std::size_t k = 0; k < keys; ++k)
    if (first_key + k > first_query) std::fill_n(scores + k * ld, std::min(queries, first_key + k - first_query), value);
}

inline void attention_check(const AttentionShape& s, std::size_t q_ld, std::size_t k_ld, std::size_t v_ld, std::size_t y_ld) {
  if (s.head_dim == 0 || s.head_dim > attention_max_head_dim)
    throw Error("attention: head_dim must be 1 to 512, found " + std::to_string(s.head_dim));
  if (s.keys == 0) throw Error("attention: expected at least one key, found none");
  if (std::min({q_ld, k_ld, v_ld, y_ld}) < s.heads * s.head_dim)
    throw Error("attention: row strides must be at least heads * head_dim = " + std::to_string(s.heads * s.head_dim) +
                ", found " + std::to_string(std::min({q_ld, k_ld, v_ld, y_ld})));
}

// Queries that pass together. Keys and values are read, and converted, once for each block of them: as many as leave scores and
// rows in the second-level cache, at most attention_floats, and enough blocks for the threads. No result depends on it.
inline constexpr std::size_t attention_floats = 200 * 1024;
inline std::size_t attention_block(const Executor& ex, const AttentionShape& s) {
  const std::size_t threads = static_cast<std::size_t>(ex.threads());
  std::size_t block = attention_most_queries;
  for (; block > attention_queries; block /= 2) {
    const std::size_t floats = block * (2 * s.head_dim + attention_keys) + 2 * attention_keys * s.head_dim;
    const bool enough = s.batch * s.heads * ((s.queries + block - 1) / block) >= 4 * threads;
    if (s.queries > block / 2 && floats <= std::min(ex.cached_floats(), attention_floats) && (enough || threads == 1)) break;
  }
  return block;
}

// Items of one thread below which starting another costs more than it gives.
inline std::size_t attention_grain(std::size_t products_per_item) {
  return std::max<std::size_t>(1, (std::size_t{1} << 17) / (products_per_item + 1));
}

}  // namespace detail

// y_i = sum_j p_ij v_j; softmax: p_i = softmax(scale q_i K^T), relu: p_ij = max(scale q_i k_j, 0) / keys.
// q, y: [batch][queries][heads * head_dim], k, v: [batch][keys][heads * head_dim], rows *_ld floats apart; k and v may be the
// same. log_sum_exp: [batch][heads][queries], or null; what attention_backward needs of softmax (unused by relu).
// Throws Error for an empty or too large head, no keys, or strides shorter than a row. No allocation: executor scratch only.
// Source: Vaswani et al. 2017; running maximum and sum as in Milakov and Gimelshein 2018 and Dao 2023 (FlashAttention-2).
inline void attention(const Executor& ex, const AttentionShape& shape, const float* q, std::size_t q_ld, const float* k,
                      std::size_t k_ld, const float* v, std::size_t v_ld, float* y, std::size_t y_ld, float* log_sum_exp) {
  using namespace detail;
  using simd::Batch;
  constexpr std::size_t width = simd::width;
  constexpr float log2_of_e = 1.44269504f;
  attention_check(shape, q_ld, k_ld, v_ld, y_ld);
  const std::size_t d = shape.head_dim, columns = attention_padded(d);
  const std::size_t block = attention_block(ex, shape), blocks = (shape.queries + block - 1) / block;
  const std::size_t grain = attention_grain(2 * std::min(shape.queries, block) * shape.keys * d);
  const bool softmax = is_softmax(shape.kind), pairs = shape.bf16 && simd::has_dot_bf16;

  ex.parallel_for(shape.batch * shape.heads * blocks, grain, [&](std::size_t begin, std::size_t end, int thread) {
    const simd::Tiles registers(pairs);
    float* queries_t = ex.scratch(thread);                              // [d][lanes], scaled
    float* sums = queries_t + std::max(d, attention_tiled(1)) * block;  // [block][columns]
    float* scores = sums + block * columns;                             // [attention_keys][lanes], then probabilities
    float* values = scores + attention_keys * block;                    // [attention_keys][columns]
    float* maximum = values + attention_keys * columns;                 // [lanes]
    float* total = maximum + block;                                     // [lanes]
    float* rescale = total + block;                                     // [lanes]
    float* keys = rescale + block;                                      // [attention_keys][key_words], in bf16
    const std::size_t key_words = (columns + 2 * width - 1) / (2 * width) * width;
    constexpr std::size_t next = 1;  // the step of what lies side by side
    const auto multiply = [&]<bool Pairs>(std::bool_constant<Pairs>, auto... operands) -> void {
#if defined(__aarch64__)
      attention_product_in_tiles<Pairs>(operands..., keys + attention_keys * key_words);
#else
      attention_product<Pairs>(operands...);
#endif
    };
    for (std::size_t item = begin; item < end; ++item) {
      const std::size_t batch = item / blocks / shape.heads, head = item / blocks % shape.heads;
      const std::size_t q0 = item % blocks * block, nq = std::min(block, shape.queries - q0);
      const std::size_t lanes = attention_lanes(nq);
      const std::size_t visible = shape.causal ? std::min(shape.keys, q0 + nq) : shape.keys;
      const float* query = q + (batch * shape.queries + q0) * q_ld + head * d;
      if constexpr (simd::has_dot_bf16) {
        if (pairs) {  // the scores of softmax are exponents of two
          const float factor = softmax ? shape.scale * log2_of_e : shape.scale;
          const std::size_t words = attention_turned_pairs(query, q_ld, nq, d, factor, queries_t, lanes);
          std::fill_n(queries_t + words * lanes, (attention_tiled(words) - words) * lanes, 0.0f);
        }
      }
      if (!pairs) attention_transpose(query, q_ld, nq, d, shape.scale, queries_t, lanes);
      for (std::size_t k0 = 0; k0 < visible; k0 += attention_keys) {
        const std::size_t nk = std::min(attention_keys, visible - k0);
        const bool first = k0 == 0;
        const float* key = k + (batch * shape.keys + k0) * k_ld + head * d;
        const float* value = v + (batch * shape.keys + k0) * v_ld + head * d;
        if constexpr (simd::has_dot_bf16) {
          if (pairs) {
            const std::size_t words = attention_pairs_along(key, k_ld, nk, d, keys, key_words);
            if constexpr (simd::has_tiles)  // rows of keys beyond the last are what they were, and so are their scores
              multiply_whole_tiles(attention_padded(nk), lanes, attention_tiled(words), keys, key_words, queries_t, lanes, scores,
                                   lanes, false);
            else multiply(std::true_type{}, nk, lanes, words, keys, key_words, next, queries_t, lanes, scores, lanes, false);
          }
        }
        if (!pairs) multiply(std::false_type{}, nk, lanes, d, key, k_ld, next, queries_t, lanes, scores, lanes, false);
        if (shape.causal) attention_mask(scores, lanes, q0, nq, k0, nk, attention_masked);
        const AttentionSums running{maximum, total, rescale};
        if constexpr (simd::has_dot_bf16)
          if (pairs) attention_weights<true>(softmax, scores, lanes, nk, first, running);
        if (!pairs) attention_weights<false>(softmax, scores, lanes, nk, first, running);
        if (softmax && !first)
          for (std::size_t i = 0; i < nq; ++i) {
            if (rescale[i] == 1.0f) continue;  // most: no later key was nearer
            for (std::size_t c = 0; c < columns; c += width)
              simd::store(sums + i * columns + c, simd::load(sums + i * columns + c) * simd::splat(rescale[i]));
          }
        if constexpr (simd::has_dot_bf16) {
          if (pairs) {
            attention_pairs_across(value, v_ld, nk, d, values, columns);
            const std::size_t words = (nk + 1) / 2, tiled = attention_tiled(words);
            if constexpr (simd::has_tiles) {
              float* const turned = scores + attention_keys / 2 * lanes;  // the words have left half of the scores free
              attention_turn(scores, lanes, words, lanes, turned);
              std::fill_n(values + words * columns, (tiled - words) * columns, 0.0f);
              multiply_whole_tiles(lanes, columns, tiled, turned, tiled, values, columns, sums, columns, !first);
            } else {
              multiply(std::true_type{}, nq, columns, words, scores, next, lanes, values, columns, sums, columns, !first);
            }
          }
        }
        if (!pairs) {
          const AttentionRows rows = attention_rows(value, v_ld, nk, d, values);
          multiply(std::false_type{}, nq, columns, nk, scores, next, lanes, rows.data, rows.ld, sums, columns, !first);
        }
      }
      for (std::size_t i = 0; i < nq; ++i) {
        float* out = y + (batch * shape.queries + q0 + i) * y_ld + head * d;
        const float factor = 1.0f / (softmax ? total[i] : static_cast<float>(shape.keys));
        std::size_t c = 0;
        for (; c + width <= d; c += width) simd::store(out + c, simd::load(sums + i * columns + c) * simd::splat(factor));
        for (; c < d; ++c) out[c] = sums[i * columns + c] * factor;
        if (softmax && log_sum_exp != nullptr)
          log_sum_exp[(batch * shape.heads + head) * shape.queries + q0 + i] =
              (pairs ? maximum[i] / log2_of_e : maximum[i]) + std::log(total[i]);
      }
    }
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
