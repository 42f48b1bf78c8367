// SPDX-License-Identifier: Apache-2.0
// Gradients of multi-head attention: probabilities are computed again, block by block, from the saved log-sum-exp.
#pragma once

#include "../../core/begin.hpp"

#include "../attention.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// With P as in attention(), dP = dY V^T and softmax: dS = P * (dP - rowsum(dY * Y)), relu: dS = [S > 0] dP / keys:
//   dV += P^T dY,  dQ = scale dS K,  dK += scale dS^T Q.
// Shapes and strides as in attention(); dq is assigned, dk and dv are added to and may be the same (shared projection).
// y and log_sum_exp: as attention() left them; softmax only, relu accepts null. Throws Error as attention() does, and for
// softmax without y or log_sum_exp. Parallel over batch * heads. Source: Dao 2023 (FlashAttention-2), algorithm 2.
inline void attention_backward(const Executor& ex, const AttentionShape& shape, const float* q, std::size_t q_ld, const float* k,
                               std::size_t k_ld, const float* v, std::size_t v_ld, const float* y, std::size_t y_ld,
                               const float* dy, std::size_t dy_ld, const float* log_sum_exp, float* dq, std::size_t dq_ld,
                               float* dk, std::size_t dk_ld, float* dv, std::size_t dv_ld) {
  using namespace detail;
  using simd::Batch;
  constexpr std::size_t width = simd::width;
  const bool softmax = is_softmax(shape.kind);
  attention_check(shape, q_ld, k_ld, v_ld, softmax ? y_ld : dy_ld);
  attention_check(shape, dq_ld, dk_ld, dv_ld, dy_ld);
  if (softmax && (y == nullptr || log_sum_exp == nullptr))
    throw Error("attention_backward: softmax needs y and log_sum_exp of the forward pass, found null");
  const std::size_t d = shape.head_dim, columns = attention_padded(d);
  const std::size_t grain = attention_grain(5 * shape.queries * shape.keys * d);

  ex.parallel_for(shape.batch * shape.heads, grain, [&](std::size_t begin, std::size_t end, int thread) {
    float* at = ex.scratch(thread);
    const auto take = [&at](std::size_t floats) {
      float* p = at;
      at += floats;
      return p;
    };
    float* queries_t = take(d * attention_queries);         // [d][lanes], scaled
    float* dy_t = take(d * attention_queries);              // [d][lanes]
    float* dq_sums = take(attention_queries * columns);     // [nq][columns]
    float* p = take(attention_keys * attention_queries);    // [nk][lanes]: scores, then probabilities
    float* ds = take(attention_keys * attention_queries);   // [nk][lanes]: dP, then scale * dS
    float* query_rows = take(attention_queries * columns);  // padded copies, where the head dimension needs them
    float* dy_rows = take(attention_queries * columns);
    float* key_rows = take(attention_keys * columns);
    float* tile = take(attention_keys * columns);
    float* lse = take(attention_queries);  // [lanes]
    float* dot = take(attention_queries);  // [lanes]: rowsum(dY * Y)
    const Batch zero = simd::splat(0.0f), scale = simd::splat(shape.scale);
    const Batch relu_factor = simd::splat(1.0f / static_cast<float>(shape.keys));

    // out[nk][d] += A b, A: [nk][lanes]. Straight into the caller's rows where those hold whole vectors.
    const auto add_product = [&](std::size_t nk, std::size_t nq, const float* a, std::size_t lanes, AttentionRows b, float* out,
                                 std::size_t out_ld) {
      if (columns == d) {
        attention_product(nk, columns, nq, a, lanes, 1, b.data, b.ld, out, out_ld, true);
        return;
      }
      attention_product(nk, columns, nq, a, lanes, 1, b.data, b.ld, tile, columns, false);
      for (std::size_t j = 0; j < nk; ++j)
        for (std::size_t c = 0; c < d; ++c) out[j * out_ld + c] += tile[j * columns + c];
    };

    for (std::size_t item = begin; item < end; ++item) {
      const std::size_t batch = item / shape.heads, head = item % shape.heads;
      const std::size_t first_key_row = batch * shape.keys;
      for (std::size_t q0 = 0; q0 < shape.queries; q0 += attention_queries) {
        const std::size_t nq = std::min(attention_queries, shape.queries - q0), lanes = attention_padded(nq);
        const std::size_t row = batch * shape.queries + q0;
        const float* q_here = q + row * q_ld + head * d;
        const float* dy_here = dy + row * dy_ld + head * d;
        attention_transpose(q_here, q_ld, nq, d, shape.scale, queries_t, lanes);
        attention_transpose(dy_here, dy_ld, nq, d, 1.0f, dy_t, lanes);
        const AttentionRows q_rows = attention_rows(q_here, q_ld, nq, d, query_rows);
        const AttentionRows g_rows = attention_rows(dy_here, dy_ld, nq, d, dy_rows);
        if (softmax) {
          for (std::size_t i = 0; i < lanes; ++i) {
            lse[i] = dot[i] = 0.0f;
            if (i >= nq) continue;
            lse[i] = log_sum_exp[item * shape.queries + q0 + i];
            const float* a = dy_here + i * dy_ld;
            const float* b = y + (row + i) * y_ld + head * d;
            Batch sum = zero;
            std::size_t c = 0;
            for (; c + width <= d; c += width) sum = simd::fma(simd::load(a + c), simd::load(b + c), sum);
            dot[i] = simd::sum(sum);
            for (; c < d; ++c) dot[i] += a[c] * b[c];
          }
        }
        const std::size_t visible = shape.causal ? std::min(shape.keys, q0 + nq) : shape.keys;
        for (std::size_t k0 = 0; k0 < visible; k0 += attention_keys) {
          const std::size_t nk = std::min(attention_keys, visible - k0), key_row = first_key_row + k0;
          const float* k_here = k + key_row * k_ld + head * d;
          attention_product(nk, lanes, d, k_here, k_ld, 1, queries_t, lanes, p, lanes, false);
          attention_product(nk, lanes, d, v + key_row * v_ld + head * d, v_ld, 1, dy_t, lanes, ds, lanes, false);
          if (shape.causal) attention_mask(p, lanes, q0, nq, k0, nk, attention_masked);
          for (std::size_t i = 0; i < lanes; i += width) {
            const Batch shift = softmax ? simd::load(lse + i) : zero, centre = softmax ? simd::load(dot + i) : zero;
            for (std::size_t j = 0; j < nk; ++j) {
              float* score = p + j * lanes + i;
              float* slope = ds + j * lanes + i;
              const Batch s = simd::load(score), dp = simd::load(slope);
              if (softmax) {
                const Batch probability = simd::exp(s - shift);
                simd::store(score, probability);
                simd::store(slope, probability * (dp - centre) * scale);
              } else {
                simd::store(score, simd::max(s, zero) * relu_factor);
                simd::store(slope, select(s > zero, dp * relu_factor * scale, zero));
              }
            }
          }
          // dv is complete for this block before dk is touched: with a shared projection both are the same memory.
          add_product(nk, nq, p, lanes, g_rows, dv + key_row * dv_ld + head * d, dv_ld);
          add_product(nk, nq, ds, lanes, q_rows, dk + key_row * dk_ld + head * d, dk_ld);
          const AttentionRows k_rows = attention_rows(k_here, k_ld, nk, d, key_rows);
          attention_product(nq, columns, nk, ds, 1, lanes, k_rows.data, k_rows.ld, dq_sums, columns, k0 != 0);
        }
        for (std::size_t i = 0; i < nq; ++i) std::copy_n(dq_sums + i * columns, d, dq + (row + i) * dq_ld + head * d);
      }
    }
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../../core/end.hpp"
