// SPDX-License-Identifier: Apache-2.0
// Raw instructions of the 8-bit products: four bytes a lane, their dot product, and the way from floats to bytes and back.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd.hpp"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd {

// Whether one lane holds four bytes and the processor multiplies and adds them into int32 (AVX512_VNNI). Elsewhere 8-bit weights
// are widened and multiplied as fp32.
#if defined(__AVX512VNNI__)
inline constexpr bool has_dot_int8 = true;

// Lanes of four bytes, or int32. A type of its own: g++ 12 spills accumulators that change between float and int.
using Words = __m512i;

inline Words load_words(const float* p) { return _mm512_loadu_si512(p); }
inline Words splat_word(const float* p) {
  std::int32_t word;
  std::memcpy(&word, p, sizeof(word));
  return _mm512_set1_epi32(word);
}
inline Words zero_words() { return _mm512_setzero_si512(); }
// c[j] + sum over i < 4 of a[4j + i] * b[4j + i], bytes of a unsigned, of b signed.
inline Words dot_int8(Words a, Words b, Words c) {
#if defined(__GNUC__) && !defined(__clang__)
  asm("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));  // g++ 12 copies and spills around the intrinsic: 2.2 times slower
  return c;
#else
  return _mm512_dpbusd_epi32(c, a, b);
#endif
}
inline Batch to_float(Words x) { return Batch(_mm512_maskz_cvtepi32_ps(0xffff, x)); }
// Each lane rounded to the nearest of 0 to 255, `width` bytes.
inline void store_bytes(std::uint8_t* p, Batch x) {
  const __m512i q = _mm512_maskz_max_epi32(0xffff, _mm512_maskz_cvtps_epi32(0xffff, x), _mm512_setzero_si512());
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtusepi32_epi8(0xffff, q));
}
#else
inline constexpr bool has_dot_int8 = false;
// Named by code that has_dot_int8 discards; never defined.
using Words = Batch;
Words load_words(const float* p);
Words splat_word(const float* p);
Words zero_words();
Words dot_int8(Words a, Words b, Words c);
Batch to_float(Words x);
void store_bytes(std::uint8_t* p, Batch x);
#endif

inline float minimum(Batch v) { return -maximum(splat(0.0f) - v); }

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd

#include "../core/end.hpp"
