// SPDX-License-Identifier: Apache-2.0
// Tensors shared by every image of a batch: broadcast addition and its adjoint; plain copies.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <cstring>

#include "../core/executor.hpp"
#include "../simd/simd.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

inline void copy(const Executor& ex, const float* x, float* y, std::size_t n) {
  ex.parallel_for(n, 65536, [&](std::size_t begin, std::size_t end, int) {
    std::memcpy(y + begin, x + begin, (end - begin) * sizeof(float));
  });
}

// x [batch][n] += v [n]
inline void add_per_batch(const Executor& ex, const float* v, float* x, std::size_t batch, std::size_t n) {
  ex.parallel_for(batch, 1, [&](std::size_t begin, std::size_t end, int) {
    for (std::size_t b = begin; b < end; ++b)
      for (std::size_t i = 0; i < n; ++i) x[b * n + i] += v[i];
  });
}

// v [n] += sum over the batch of d [batch][n], in batch order
inline void sum_batch(const Executor& ex, const float* d, std::size_t batch, std::size_t n, float* v) {
  ex.parallel_for(n, 4096, [&](std::size_t begin, std::size_t end, int) {
    for (std::size_t b = 0; b < batch; ++b)
      for (std::size_t i = begin; i < end; ++i) v[i] += d[b * n + i];
  });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels

#include "../core/end.hpp"
