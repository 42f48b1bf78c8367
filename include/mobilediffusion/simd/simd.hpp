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

// The first n < width lanes, the others zero; and only the first n lanes written. For tails, in the same code as full lanes.
inline Batch load_partial(const float* p, std::size_t n) {
#if defined(__AVX512F__)
  return Batch(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p));
#else
  alignas(64) float lanes[width] = {};
  for (std::size_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
#endif
}
inline void store_partial(float* p, Batch v, std::size_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), v);
#else
  alignas(64) float lanes[width];
  store(lanes, v);
  for (std::size_t i = 0; i < n; ++i) p[i] = lanes[i];
#endif
}

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
inline Batch where_positive(Batch x, Batch v) { return xsimd::select(x > splat(0.0f), v, splat(0.0f)); }  // v where x > 0, else 0
inline Batch exp(Batch x) { return xsimd::exp(x); }
inline Batch erf(Batch x) { return xsimd::erf(x); }
inline Batch sigmoid(Batch x) { return splat(1.0f) / (splat(1.0f) + xsimd::exp(splat(0.0f) - x)); }

}  // namespace mobilediffusion::simd
