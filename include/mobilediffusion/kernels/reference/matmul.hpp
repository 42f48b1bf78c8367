// SPDX-License-Identifier: Apache-2.0
// The oracle of kernels/matmul.hpp and column_sums.hpp: the same meaning in scalar loops, summed in double.
#pragma once

#include "../../core/begin.hpp"

#include <algorithm>
#include <cstddef>

#include "../arguments.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference {

namespace detail {
inline void finish(std::size_t n, std::size_t i, std::size_t j, double sum, float* c, std::size_t ldc, const Epilogue& e) {
  if (e.bias != nullptr) sum += e.bias[i / e.rows_per_bias * n + j];
  if (e.residual != nullptr) sum += e.residual[i * e.residual_ld + j];
  if (e.accumulate) sum += c[i * ldc + j];
  c[i * ldc + j] = static_cast<float>(sum);
}
template <class A, class B>
void product(std::size_t m, std::size_t n, std::size_t k, A a, B b, float* c, std::size_t ldc, const Epilogue& e) {
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::size_t l = 0; l < k; ++l) sum += static_cast<double>(a(i, l)) * static_cast<double>(b(l, j));
      finish(n, i, j, sum, c, ldc, e);
    }
}
}  // namespace detail

// C[M, N] = A[M, K] B[N, K]^T
inline void matmul_nt(std::size_t m, std::size_t n, std::size_t k, const float* a, const float* b, float* c, std::size_t ldc,
                      const Epilogue& e = {}) {
  detail::product(
      m, n, k, [&](std::size_t i, std::size_t l) { return a[i * k + l]; },
      [&](std::size_t l, std::size_t j) { return b[j * k + l]; }, c, ldc, e);
}

// C[M, N] = A[M, K] B[K, N]
inline void matmul_nn(std::size_t m, std::size_t n, std::size_t k, const float* a, const float* b, float* c, std::size_t ldc,
                      const Epilogue& e = {}) {
  detail::product(
      m, n, k, [&](std::size_t i, std::size_t l) { return a[i * k + l]; },
      [&](std::size_t l, std::size_t j) { return b[l * n + j]; }, c, ldc, e);
}

// C[M, N] = A[K, M]^T B[K, N]
inline void matmul_tn(std::size_t m, std::size_t n, std::size_t k, const float* a, const float* b, float* c, std::size_t ldc,
                      const Epilogue& e = {}) {
  detail::product(
      m, n, k, [&](std::size_t i, std::size_t l) { return a[l * m + i]; },
      [&](std::size_t l, std::size_t j) { return b[l * n + j]; }, c, ldc, e);
}

// db[i / rows_per_sum][j] += dy[i][j]
inline void column_sums(const float* dy, std::size_t rows, std::size_t n, float* db, std::size_t rows_per_sum = SIZE_MAX) {
  const std::size_t per_sum = std::min(rows, rows_per_sum);
  for (std::size_t i0 = 0; i0 < rows; i0 += per_sum)
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::size_t i = i0; i < std::min(rows, i0 + per_sum); ++i) sum += dy[i * n + j];
      db[i0 / per_sum * n + j] += static_cast<float>(sum);
    }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels::reference

#include "../../core/end.hpp"
