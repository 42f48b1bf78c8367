// SPDX-License-Identifier: Apache-2.0
// Raw instructions of the products on 64-bit ARM: multiply by one lane of a vector (FMLA, SDOT, BFDOT), two rows by two columns
// (USMMLA, BFMMLA), and pairs of bf16. dot_bf16.hpp and dot_int8.hpp include it.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd {

// Whether instructions multiply two rows by two columns, of 8 bits and of bf16 (I8MM, BF16: simd::Isa::i8mm).
#if defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
inline constexpr bool has_blocks = true;
#else
inline constexpr bool has_blocks = false;
#endif

// c[j] + a[Lane] * b[j]
template <int Lane>
inline Batch fma_lane(Batch a, Batch b, Batch c) {
  return Batch(vfmaq_laneq_f32(c, b, a, Lane));
}

// What is read through p is read after what stands before: g++ would load first and spill sums to have the registers.
[[gnu::always_inline]] inline void load_later(const float*& p) { asm volatile("" : "+r"(p)); }

// The lower and the upper half of a vector, to different places.
inline void store_halves(float* low, float* high, Batch v) {
  vst1_f32(low, vget_low_f32(v));
  vst1_f32(high, vget_high_f32(v));
}
// Each lane `step` floats from the one before.
inline void store_lanes(float* p, std::size_t step, Batch v) {
  vst1q_lane_f32(p, v, 0);
  vst1q_lane_f32(p + step, v, 1);
  vst1q_lane_f32(p + 2 * step, v, 2);
  vst1q_lane_f32(p + 3 * step, v, 3);
}
// a[0], b[0], a[1], b[1]; the same of the upper halves.
inline Batch zip_low(Batch a, Batch b) { return Batch(vzip1q_f32(a, b)); }
inline Batch zip_high(Batch a, Batch b) { return Batch(vzip2q_f32(a, b)); }
// a[0], b[0] to a[3], b[3], eight floats.
inline void store_zipped(float* p, Batch a, Batch b) {
  store(p, zip_low(a, b));
  store(p + width, zip_high(a, b));
}
// a[0], a[2], b[0], b[2]
inline Batch even_lanes(Batch a, Batch b) { return Batch(vuzp1q_f32(a, b)); }

// The upper rows of two blocks of 2x2 side by side; the lower ones.
inline Batch upper_row(Batch a, Batch b) {
  return Batch(vreinterpretq_f32_f64(vzip1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b))));
}
inline Batch lower_row(Batch a, Batch b) {
  return Batch(vreinterpretq_f32_f64(vzip2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b))));
}

#if defined(__ARM_FEATURE_DOTPROD)
// Lanes of four bytes, or int32.
using Words = int32x4_t;

// What is taken off the bytes of a when they are stored: SDOT knows signed ones only.
inline constexpr int byte_bias = has_blocks ? 0 : 128;

inline Words load_words(const float* p) { return vreinterpretq_s32_f32(vld1q_f32(p)); }
inline Words splat_word(const float* p) { return vreinterpretq_s32_f32(vld1q_dup_f32(p)); }
inline Words zero_words() { return vdupq_n_s32(0); }
inline Batch to_float(Words x) { return Batch(vcvtq_f32_s32(x)); }
// Each lane rounded to the nearest byte (unsigned, or signed with the bias), four of them.
inline void store_bytes(std::uint8_t* p, Batch x) {
  const int16x4_t narrow = vqmovn_s32(vcvtnq_s32_f32(x));
  const int16x8_t both = vcombine_s16(narrow, narrow);
  const uint8x8_t bytes = byte_bias == 0 ? vqmovun_s16(both) : vreinterpret_u8_s8(vqmovn_s16(both));
  const std::uint32_t word = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
  std::memcpy(p, &word, sizeof(word));
}
// Four vectors that follow each other.
inline void store_bytes(std::uint8_t* p, Batch a, Batch b, Batch c, Batch d) {
  store_bytes(p, a);
  store_bytes(p + 4, b);
  store_bytes(p + 8, c);
  store_bytes(p + 12, d);
}
inline int8x16_t as_bytes(Words x) { return vreinterpretq_s8_s32(x); }
// Of signed bytes of a and b: c[j] + sum over i < 4 of a[4 Lane + i] * b[4j + i].
template <int Lane>
inline Words dot_int8_lane(Words a, Words b, Words c) {
  return vdotq_laneq_s32(c, as_bytes(b), as_bytes(a), Lane);
}
#else
inline constexpr int byte_bias = 0;
#endif

#if defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
inline Words dot_int8(Words a, Words b, Words c) { return vusdotq_s32(c, vreinterpretq_u8_s32(a), as_bytes(b)); }
// The block c (2x2) plus two rows of two words of a times two columns of two words of b, of bytes (a's unsigned) or of bf16.
inline Words block(Words a, Words b, Words c) { return vusmmlaq_s32(c, vreinterpretq_u8_s32(a), as_bytes(b)); }
inline bfloat16x8_t as_bf16(Batch x) { return vreinterpretq_bf16_f32(x); }
inline Batch block(Batch a, Batch b, Batch c) { return Batch(vbfmmlaq_f32(c, as_bf16(a), as_bf16(b))); }
inline Words upper_row(Words a, Words b) {
  return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
inline Words lower_row(Words a, Words b) {
  return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

// Lane j = (x[2j], x[2j + 1]) where x is low followed by high.
inline Batch pairs_along(Batch low, Batch high) {
  return Batch(vreinterpretq_f32_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(low), high)));
}
// Lane j = (even[j], odd[j]).
inline Batch pairs_across(Batch even, Batch odd) {
  const uint16x8_t e = vreinterpretq_u16_bf16(vcvtq_low_bf16_f32(even)), o = vreinterpretq_u16_bf16(vcvtq_low_bf16_f32(odd));
  return Batch(vreinterpretq_f32_u16(vzip1q_u16(e, o)));
}
// c[j] + a[j].first * b[j].first + a[j].second * b[j].second, lanes of a and b being pairs of bf16.
inline Batch dot_bf16(Batch a, Batch b, Batch c) { return Batch(vbfdotq_f32(c, as_bf16(a), as_bf16(b))); }
#else
#if defined(__ARM_FEATURE_DOTPROD)
inline Words dot_int8(Words a, Words b, Words c) { return vdotq_s32(c, as_bytes(a), as_bytes(b)); }
#endif
// Named by code that has_blocks discards; never defined.
Batch pairs_along(Batch low, Batch high);
Batch pairs_across(Batch even, Batch odd);
Batch dot_bf16(Batch a, Batch b, Batch c);
template <class Sum>
Sum block(Sum a, Sum b, Sum c);
#if defined(__ARM_FEATURE_DOTPROD)
Words upper_row(Words a, Words b);
Words lower_row(Words a, Words b);
#endif
#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd

#endif

#include "../core/end.hpp"
