// SPDX-License-Identifier: Apache-2.0
// Attention and its gradients from the definition: scalar, in double, every probability stored. The oracle of the kernels.
#pragma once

#include "../../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "../arguments.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference {

namespace detail {

inline double dot(const float* a, const float* b, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// Probabilities [queries][keys] of one head, and log(sum(exp(score))) for each query.
struct Probabilities {
  std::vector<double> p, log_sum_exp;
};
inline Probabilities probabilities(const AttentionShape& s, const float* q, std::size_t q_ld, const float* k, std::size_t k_ld) {
  Probabilities out{std::vector<double>(s.queries * s.keys), std::vector<double>(s.queries)};
  for (std::size_t i = 0; i < s.queries; ++i) {
    double* row = out.p.data() + i * s.keys;
    const std::size_t n = s.causal ? std::min(s.keys, i + 1) : s.keys;
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::size_t j = 0; j < n; ++j) {
      row[j] = static_cast<double>(s.scale) * dot(q + i * q_ld, k + j * k_ld, s.head_dim);
      largest = std::max(largest, row[j]);
    }
    for (std::size_t j = 0; j < n; ++j) {
      row[j] = s.kind == AttentionKind::softmax ? std::exp(row[j] - largest) : std::max(row[j], 0.0);
      sum += row[j];
    }
    out.log_sum_exp[i] = largest + std::log(sum);
    if (s.kind == AttentionKind::relu) sum = static_cast<double>(s.keys);
    for (std::size_t j = 0; j < n; ++j) row[j] /= sum;
  }
  return out;
}

}  // namespace detail

inline void attention(const Executor&, const AttentionShape& s, const float* q, std::size_t q_ld, const float* k,
                      std::size_t k_ld, const float* v, std::size_t v_ld, float* y, std::size_t y_ld, float* log_sum_exp) {
  for (std::size_t item = 0; item < s.batch * s.heads; ++item) {
    const std::size_t b = item / s.heads, at = item % s.heads * s.head_dim;
    const auto all = detail::probabilities(s, q + b * s.queries * q_ld + at, q_ld, k + b * s.keys * k_ld + at, k_ld);
    for (std::size_t i = 0; i < s.queries; ++i) {
      for (std::size_t c = 0; c < s.head_dim; ++c) {
        double sum = 0;
        for (std::size_t j = 0; j < s.keys; ++j)
          sum += all.p[i * s.keys + j] * static_cast<double>(v[(b * s.keys + j) * v_ld + at + c]);
        y[(b * s.queries + i) * y_ld + at + c] = static_cast<float>(sum);
      }
      if (log_sum_exp != nullptr && s.kind == AttentionKind::softmax)
        log_sum_exp[item * s.queries + i] = static_cast<float>(all.log_sum_exp[i]);
    }
  }
}

// Same signature as the kernel; what the kernel saved (y, log_sum_exp) is not used.
inline void attention_backward(const Executor&, const AttentionShape& s, const float* q, std::size_t q_ld, const float* k,
                               std::size_t k_ld, const float* v, std::size_t v_ld, const float*, std::size_t, const float* dy,
                               std::size_t dy_ld, const float*, float* dq, std::size_t dq_ld, float* dk, std::size_t dk_ld,
                               float* dv, std::size_t dv_ld) {
  std::vector<double> ds(s.queries * s.keys);
  for (std::size_t item = 0; item < s.batch * s.heads; ++item) {
    const std::size_t b = item / s.heads, at = item % s.heads * s.head_dim;
    const float* qh = q + b * s.queries * q_ld + at;
    const float* kh = k + b * s.keys * k_ld + at;
    const float* vh = v + b * s.keys * v_ld + at;
    const float* gh = dy + b * s.queries * dy_ld + at;
    const auto all = detail::probabilities(s, qh, q_ld, kh, k_ld);
    for (std::size_t i = 0; i < s.queries; ++i) {
      const double* p = all.p.data() + i * s.keys;
      double* row = ds.data() + i * s.keys;
      double mean = 0;
      for (std::size_t j = 0; j < s.keys; ++j) {
        row[j] = detail::dot(gh + i * dy_ld, vh + j * v_ld, s.head_dim);
        mean += p[j] * row[j];
      }
      for (std::size_t j = 0; j < s.keys; ++j)
        row[j] = static_cast<double>(s.scale) * (s.kind == AttentionKind::softmax ? p[j] * (row[j] - mean)
                                                 : p[j] > 0                       ? row[j] / static_cast<double>(s.keys)
                                                                                  : 0.0);
      for (std::size_t c = 0; c < s.head_dim; ++c) {
        double sum = 0;
        for (std::size_t j = 0; j < s.keys; ++j) sum += row[j] * static_cast<double>(kh[j * k_ld + c]);
        dq[(b * s.queries + i) * dq_ld + at + c] = static_cast<float>(sum);
      }
    }
    for (std::size_t j = 0; j < s.keys; ++j)
      for (std::size_t c = 0; c < s.head_dim; ++c) {
        double to_v = 0, to_k = 0;
        for (std::size_t i = 0; i < s.queries; ++i) {
          to_v += all.p[i * s.keys + j] * static_cast<double>(gh[i * dy_ld + c]);
          to_k += ds[i * s.keys + j] * static_cast<double>(qh[i * q_ld + c]);
        }
        dv[(b * s.keys + j) * dv_ld + at + c] += static_cast<float>(to_v);
        dk[(b * s.keys + j) * dk_ld + at + c] += static_cast<float>(to_k);
      }
  }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference

#include "../../core/end.hpp"
