// SPDX-License-Identifier: Apache-2.0
// Raw instructions of the 8-bit products: four bytes a lane, their dot product, and the way from floats to bytes and back.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include "dot_arm.hpp"
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd {

// Whether one lane holds four bytes and the processor multiplies and adds them into int32 (AVX512_VNNI; AVX-VNNI in registers of
// 256 bits; ARM's DotProd), or, in WebAssembly, pairs of 16 bits. Elsewhere 8-bit weights are widened and multiplied as fp32.
// g++ 12 copies and spills around the intrinsics (2.2 times slower), hence the instructions by name.
#if defined(__AVX512F__) && defined(__AVX512VNNI__)
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
  asm("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
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
// Four vectors that follow each other. The narrowing instructions keep to quarters of a register, hence the permutation.
inline void store_bytes(std::uint8_t* p, Batch a, Batch b, Batch c, Batch d) {
  const auto whole = [](Batch x) { return _mm512_maskz_cvtps_epi32(0xffff, x); };
  const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(whole(a), whole(b)), _mm512_packs_epi32(whole(c), whole(d)));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(p, _mm512_maskz_permutexvar_epi32(0xffff, order, bytes));
}
#elif !defined(__AVX512F__) && defined(__AVX2__) && defined(__AVXVNNI__)
inline constexpr bool has_dot_int8 = true;

using Words = __m256i;

inline Words load_words(const float* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Words splat_word(const float* p) {
  std::int32_t word;
  std::memcpy(&word, p, sizeof(word));
  return _mm256_set1_epi32(word);
}
inline Words zero_words() { return _mm256_setzero_si256(); }
inline Words dot_int8(Words a, Words b, Words c) {
#if defined(__GNUC__) && !defined(__clang__)
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
  return c;
#else
  return _mm256_dpbusd_avx_epi32(c, a, b);
#endif
}
inline Batch to_float(Words x) { return Batch(_mm256_cvtepi32_ps(x)); }
inline void store_bytes(std::uint8_t* p, Batch x) {
  const __m256i q = _mm256_cvtps_epi32(x);
  const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(halves, halves));
}
// Four vectors that follow each other. The narrowing instructions keep to halves of a register, hence the permutation.
inline void store_bytes(std::uint8_t* p, Batch a, Batch b, Batch c, Batch d) {
  const auto pair = [](Batch x, Batch y) { return _mm256_packs_epi32(_mm256_cvtps_epi32(x), _mm256_cvtps_epi32(y)); };
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm256_permutevar8x32_epi32(_mm256_packus_epi16(pair(a, b), pair(c, d)), order));
}
#elif defined(__wasm_simd128__) && !defined(MOBILEDIFFUSION_PLAIN_VECTORS)
inline constexpr bool has_dot_int8 = true;

using Words = v128_t;

inline Words load_words(const float* p) { return wasm_v128_load(p); }
inline Words splat_word(const float* p) { return wasm_v128_load32_splat(p); }
inline Words zero_words() { return wasm_i32x4_const_splat(0); }
// Even and odd bytes apart, widened to pairs of 16 bits: four instructions for 16 products, where fp32 takes eight.
inline Words dot_int8(Words a, Words b, Words c) {
  const v128_t even_a = wasm_v128_and(a, wasm_i16x8_const_splat(0xff)), odd_a = wasm_u16x8_shr(a, 8);
  const v128_t even_b = wasm_i16x8_shr(wasm_i16x8_shl(b, 8), 8), odd_b = wasm_i16x8_shr(b, 8);
  return wasm_i32x4_add(wasm_i32x4_add(c, wasm_i32x4_dot_i16x8(even_a, even_b)), wasm_i32x4_dot_i16x8(odd_a, odd_b));
}
inline Batch to_float(Words x) { return Batch(wasm_f32x4_convert_i32x4(x)); }
inline void store_bytes(std::uint8_t* p, Batch x) {
  const v128_t q = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(x));
  const v128_t halves = wasm_i16x8_narrow_i32x4(q, q);
  const v128_t bytes = wasm_u8x16_narrow_i16x8(halves, halves);
  wasm_v128_store32_lane(p, bytes, 0);
}
// Four vectors that follow each other.
inline void store_bytes(std::uint8_t* p, Batch a, Batch b, Batch c, Batch d) {
  const auto whole = [](Batch x) { return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(x)); };
  wasm_v128_store(
      p, wasm_u8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(whole(a), whole(b)), wasm_i16x8_narrow_i32x4(whole(c), whole(d))));
}
#elif defined(__ARM_FEATURE_DOTPROD)
inline constexpr bool has_dot_int8 = true;
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
void store_bytes(std::uint8_t* p, Batch a, Batch b, Batch c, Batch d);
#endif

// Of lanes that hold four signed bytes: byte i of each as a float.
template <int I>
Batch nth_int8(Batch words) {
  return to_float(shift_right<24>(shift_left<24 - 8 * I>(to_bits(words))));
}

#if !defined(__aarch64__)
inline constexpr int byte_bias = 0;  // what the bytes of a are stored less (dot_arm.hpp)
#endif

inline float minimum(Batch v) { return -maximum(splat(0.0f) - v); }

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd

#include "../core/end.hpp"
