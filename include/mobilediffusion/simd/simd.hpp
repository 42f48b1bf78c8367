// SPDX-License-Identifier: Apache-2.0
// The only include of xsimd: one float batch of the widest instruction set that the compiler was allowed, under the few
// names that the kernels use. Works with xsimd 8.1 (Debian 12) up to 13. Where xsimd knows no instruction set of the processor,
// or MOBILEDIFFUSION_PLAIN_VECTORS is defined, the compiler's own vectors take its place.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <cstdint>
#include <xsimd/config/xsimd_config.hpp>
#if !defined(MOBILEDIFFUSION_PLAIN_VECTORS)  // xsimd believes that emscripten always has SIMD128
#if defined(XSIMD_NO_SUPPORTED_ARCHITECTURE) || (defined(__wasm__) && !defined(__wasm_simd128__))
#define MOBILEDIFFUSION_PLAIN_VECTORS
#endif
#endif
#if defined(MOBILEDIFFUSION_PLAIN_VECTORS)
#include "plain_vectors.hpp"
#else
#include <xsimd/xsimd.hpp>
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd {

#if defined(MOBILEDIFFUSION_PLAIN_VECTORS)
namespace vectors = plain;
#else
namespace vectors = xsimd;
#endif

using Batch = vectors::batch<float>;
inline constexpr std::size_t width = Batch::size;

inline Batch load(const float* p) { return Batch::load_unaligned(p); }
inline void store(float* p, Batch v) { v.store_unaligned(p); }
inline Batch splat(float x) { return Batch(x); }

// Past the caches, where a vector is a whole line of them: the line need not be read first, and pushes nothing out. p: a multiple
// of 64 bytes. Other threads see it after stream_end().
#if defined(__AVX512F__) && !defined(MOBILEDIFFUSION_PLAIN_VECTORS)
inline constexpr bool can_stream = true;
inline void stream(float* p, Batch v) { _mm512_stream_ps(p, v); }
inline void stream_end() { _mm_sfence(); }
#else
inline constexpr bool can_stream = false;
inline void stream(float* p, Batch v) { store(p, v); }
inline void stream_end() {}
#endif

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

// The first n < width lanes of v, the others zero.
inline Batch first_lanes(Batch v, std::size_t n) {
#if defined(__AVX512F__)
  return Batch(_mm512_maskz_mov_ps(static_cast<__mmask16>((1u << n) - 1u), v));
#else
  alignas(64) float lanes[width];
  store(lanes, v);
  return load_partial(lanes, n);
#endif
}

// Lanes as integers of 32 bits.
using Integers = vectors::batch<std::int32_t>;
#if XSIMD_VERSION_MAJOR < 9 && !defined(MOBILEDIFFUSION_PLAIN_VECTORS)
inline Integers to_bits(Batch x) { return vectors::bitwise_cast<Integers>(x); }
inline Batch from_bits(Integers x) { return vectors::bitwise_cast<Batch>(x); }
#else
inline Integers to_bits(Batch x) { return vectors::bitwise_cast<std::int32_t>(x); }
inline Batch from_bits(Integers x) { return vectors::bitwise_cast<float>(x); }
#endif
#if defined(__AVX512F__)  // in the masked forms with a full mask g++ 12 does not warn about its own undefined registers
template <int N>
Integers shift_left(Integers x) {
  return Integers(_mm512_maskz_slli_epi32(0xFFFF, x, N));
}
template <int N>
Integers shift_right(Integers x) {  // with its sign
  return Integers(_mm512_maskz_srai_epi32(0xFFFF, x, N));
}
inline Batch to_float(Integers x) { return Batch(_mm512_maskz_cvtepi32_ps(0xFFFF, x)); }
#else
template <int N>
Integers shift_left(Integers x) {
  return x << N;
}
template <int N>
Integers shift_right(Integers x) {
  return x >> N;
}
inline Batch to_float(Integers x) { return vectors::to_float(x); }
#endif

// a * b + c in one rounding. xsimd 8.1 has no AVX-512 fma and relies on the compiler's contraction.
inline Batch fma(Batch a, Batch b, Batch c) {
#if defined(__AVX512F__)
  return Batch(_mm512_fmadd_ps(a, b, c));
#else
  return vectors::fma(a, b, c);
#endif
}

#if defined(__AVX512F__)  // masked, as above
inline Batch max(Batch a, Batch b) { return Batch(_mm512_maskz_max_ps(0xFFFF, a, b)); }
inline Batch min(Batch a, Batch b) { return Batch(_mm512_maskz_min_ps(0xFFFF, a, b)); }
inline Batch sqrt(Batch x) { return Batch(_mm512_maskz_sqrt_ps(0xFFFF, x)); }
// All lanes together, by a function of two vectors: halves, quarters, pairs, neighbours.
template <class F>
float over_lanes(Batch v, F&& both) {
  v = both(v, Batch(_mm512_maskz_shuffle_f32x4(0xFFFF, v, v, 0x4E)));
  v = both(v, Batch(_mm512_maskz_shuffle_f32x4(0xFFFF, v, v, 0xB1)));
  v = both(v, Batch(_mm512_maskz_permute_ps(0xFFFF, v, 0x4E)));
  v = both(v, Batch(_mm512_maskz_permute_ps(0xFFFF, v, 0xB1)));
  return _mm512_cvtss_f32(v);
}
inline float sum(Batch v) {
  return over_lanes(v, [](Batch a, Batch b) { return a + b; });
}
inline float maximum(Batch v) { return over_lanes(v, max); }
#else
inline Batch max(Batch a, Batch b) { return vectors::max(a, b); }
inline Batch min(Batch a, Batch b) { return vectors::min(a, b); }
inline Batch sqrt(Batch x) { return vectors::sqrt(x); }
inline float sum(Batch v) {
#if XSIMD_VERSION_MAJOR < 9 && !defined(MOBILEDIFFUSION_PLAIN_VECTORS)
  return vectors::hadd(v);
#else
  return vectors::reduce_add(v);
#endif
}
inline float maximum(Batch v) {
  alignas(64) float lanes[width];
  store(lanes, v);
  float m = lanes[0];
  for (std::size_t i = 1; i < width; ++i) m = lanes[i] > m ? lanes[i] : m;
  return m;
}
#endif
// v where x > 0, else 0
inline Batch where_positive(Batch x, Batch v) { return vectors::select(x > splat(0.0f), v, splat(0.0f)); }
inline Batch erf(Batch x) { return vectors::erf(x); }
#if defined(__AVX512F__)
// Own versions where the instruction set scales by powers of two and approximates reciprocals in one instruction each.
// exp: x = n ln 2 + r, exp r = 1 + r + r^2 q(r) with q interpolated at Chebyshev nodes (1.1e-8); relative error about 1e-7.
// Below -104 and above 89 the result is 0 and infinity; NaN stays NaN.
inline Batch exp(Batch x) {
  constexpr __mmask16 every = 0xFFFF;
  const __m512 low = _mm512_maskz_max_ps(every, _mm512_set1_ps(-104.0f), x);
  const __m512 v = _mm512_maskz_min_ps(every, _mm512_set1_ps(89.0f), low);
  const __m512 n = _mm512_maskz_roundscale_ps(every, _mm512_mul_ps(v, _mm512_set1_ps(1.44269504f)), 0);
  const Batch part(_mm512_fnmadd_ps(n, _mm512_set1_ps(0.693147182f), v));
  const Batch r(_mm512_fnmadd_ps(n, _mm512_set1_ps(-1.90465421e-9f), part));
  Batch q = fma(splat(1.392621347e-3f), r, splat(8.363202972e-3f));
  q = fma(q, r, splat(4.166655444e-2f));
  q = fma(q, r, splat(1.666657685e-1f));
  q = fma(q, r, splat(0.5f));
  return Batch(_mm512_maskz_scalef_ps(every, fma(q, r * r, r + splat(1.0f)), n));
}
// 2^x for what is then rounded to bf16: 2^x = 2^n 2^r, 2^r of degree 4; relative error 2.9e-6, 2^0 is 1. Tends to
// 0 and infinity.
inline Batch exp2_for_bf16(Batch x) {
  constexpr __mmask16 every = 0xFFFF;
  const __m512 n = _mm512_maskz_roundscale_ps(every, x, 0);
  const Batch r(_mm512_sub_ps(x, n));
  Batch e = fma(splat(9.582853082e-03f), r, splat(5.590642462e-02f));
  e = fma(e, r, splat(2.402409861e-01f));
  e = fma(e, r, splat(6.931241934e-01f));
  return Batch(_mm512_maskz_scalef_ps(every, fma(e, r, splat(1.0f)), n));
}
// 1 / (1 + 2^t), t = -x / ln 2 = n + r, in the fewest operations: this is what SiLU costs. 2^r of degree 5 (1.0e-07), the
// reciprocal's 14 bits after one Newton step; relative error 3e-7 near 0, 1e-6 at -20. Tends to 1e-38, not to 0.
inline Batch sigmoid(Batch x) {
  constexpr __mmask16 every = 0xFFFF;
  const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f));
  const __m512 low = _mm512_maskz_max_ps(every, _mm512_set1_ps(-126.0f), t);
  const __m512 v = _mm512_maskz_min_ps(every, _mm512_set1_ps(125.0f), low);
  const __m512 n = _mm512_maskz_roundscale_ps(every, v, 0);
  const Batch r(_mm512_sub_ps(v, n));
  Batch e = fma(splat(1.339086336e-03f), r, splat(9.676031918e-03f));
  e = fma(e, r, splat(5.550357114e-02f));
  e = fma(e, r, splat(2.402210749e-01f));
  e = fma(e, r, splat(6.931471880e-01f));
  e = fma(e, r, splat(1.000000075e+00f));
  const __m512 d = _mm512_add_ps(_mm512_set1_ps(1.0f), _mm512_maskz_scalef_ps(every, e, n));
  const Batch y(_mm512_maskz_rcp14_ps(every, d));
  return fma(y, Batch(_mm512_fnmadd_ps(d, y, _mm512_set1_ps(1.0f))), y);
}
#else
inline Batch exp(Batch x) { return vectors::exp(x); }
inline Batch exp2_for_bf16(Batch x) { return vectors::exp(splat(0.693147181f) * x); }
inline Batch sigmoid(Batch x) { return splat(1.0f) / (splat(1.0f) + vectors::exp(splat(0.0f) - x)); }
#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd

#include "../core/end.hpp"
