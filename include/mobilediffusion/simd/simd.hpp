// SPDX-License-Identifier: Apache-2.0
// The only include of xsimd: one float batch of the widest instruction set that the compiler was allowed, under the few
// names that the kernels use. Works with xsimd 8.1 (Debian 12) up to 13.
#pragma once

#include <cstddef>

#include <xsimd/xsimd.hpp>

namespace mobilediffusion::simd {

using Batch = xsimd::batch<float>;
inline constexpr std::size_t width = Batch::size;

inline Batch load(const float* p) { return Batch::load_unaligned(p); }
inline void store(float* p, Batch v) { v.store_unaligned(p); }
inline Batch splat(float x) { return Batch(x); }

// a * b + c in one rounding. xsimd 8.1 has no AVX-512 fma and relies on the compiler's contraction.
inline Batch fma(Batch a, Batch b, Batch c) {
#if defined(__AVX512F__)
  return Batch(_mm512_fmadd_ps(a, b, c));
#else
  return xsimd::fma(a, b, c);
#endif
}

inline float sum(Batch v) {
#if XSIMD_VERSION_MAJOR < 9
  return xsimd::hadd(v);
#else
  return xsimd::reduce_add(v);
#endif
}
inline float maximum(Batch v) {
  alignas(64) float lanes[width];
  store(lanes, v);
  float m = lanes[0];
  for (std::size_t i = 1; i < width; ++i) m = lanes[i] > m ? lanes[i] : m;
  return m;
}

inline Batch max(Batch a, Batch b) { return xsimd::max(a, b); }
inline Batch exp(Batch x) { return xsimd::exp(x); }
inline Batch erf(Batch x) { return xsimd::erf(x); }
inline Batch sigmoid(Batch x) { return splat(1.0f) / (splat(1.0f) + xsimd::exp(splat(0.0f) - x)); }

}  // namespace mobilediffusion::simd
