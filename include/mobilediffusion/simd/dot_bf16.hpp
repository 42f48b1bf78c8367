// SPDX-License-Identifier: Apache-2.0
// Raw instructions of the matrix products: pairs of bf16 and their dot product, in-register transposes.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>

#include "../core/number_formats.hpp"
#include "simd.hpp"

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include "dot_arm.hpp"
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd {

// Whether one lane holds two bf16 and the processor multiplies and adds them into fp32 (AVX512_BF16, but for Intel's: begin.hpp;
// AMX, whose tiles take the place of that instruction; ARM's BF16). Elsewhere bf16 products are emulated: operands rounded to
// bf16, kept and multiplied as fp32.
#if defined(__aarch64__)
inline constexpr bool has_dot_bf16 = has_blocks;
#elif defined(__AVX512BF16__) && (!defined(__AVX512FP16__) || defined(MOBILEDIFFUSION_AMX))
inline constexpr bool has_dot_bf16 = true;
#else
inline constexpr bool has_dot_bf16 = false;
#endif

// The first n lanes, n of any size, the others zero.
inline Batch load_at_most(const float* p, std::size_t n) {
  return n >= width ? load(p) : n == 0 ? splat(0.0f) : load_partial(p, n);
}

// Each lane rounded to bf16 (nearest even) and widened again; NaN stays NaN.
inline Batch round_bf16(Batch x) {
  const Integers bits = to_bits(x), upper(-0x10000);
  const Batch rounded = from_bits((bits + Integers(0x7FFF) + (shift_right<16>(bits) & Integers(1))) & upper);
  return vectors::select(x == x, rounded, from_bits((bits | Integers(0x400000)) & upper));
}

// Of lanes that hold two bf16: the first, or the second of each as fp32.
inline Batch first_bf16(Batch pairs) { return from_bits(shift_left<16>(to_bits(pairs))); }
inline Batch second_bf16(Batch pairs) { return from_bits(to_bits(pairs) & Integers(-0x10000)); }

#if defined(__AVX512BF16__) && (!defined(__AVX512FP16__) || defined(MOBILEDIFFUSION_AMX))
// Lane j = (x[2j], x[2j + 1]) where x is low followed by high.
inline Batch pairs_along(Batch low, Batch high) {
#if defined(__clang__) && __clang_major__ == 16  // it crashes over its own type of bf16 vectors in the intrinsics
  __m512 pairs;
  asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(pairs) : "v"(static_cast<__m512>(high)), "v"(static_cast<__m512>(low)));
  return Batch(pairs);
#else
  return Batch(reinterpret_cast<__m512>(_mm512_cvtne2ps_pbh(high, low)));
#endif
}

// Lane j = (even[j], odd[j]).
inline Batch pairs_across(Batch even, Batch odd) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
                                         19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i pairs = _mm512_castps_si512(pairs_along(even, odd));
  return Batch(_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xffffffffu, order, pairs)));
}

// c[j] + a[j].first * b[j].first + a[j].second * b[j].second, lanes of a and b being pairs of bf16.
inline Batch dot_bf16(Batch a, Batch b, Batch c) {
#if defined(__clang__) && __clang_major__ == 16
  __m512 sum = c;
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(static_cast<__m512>(a)), "v"(static_cast<__m512>(b)));
  return Batch(sum);
#else
  return Batch(_mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(static_cast<__m512>(a)),
                                reinterpret_cast<__m512bh>(static_cast<__m512>(b))));
#endif
}
#elif !defined(__aarch64__)
// Named by code that has_dot_bf16 discards; never defined.
Batch pairs_along(Batch low, Batch high);
Batch pairs_across(Batch even, Batch odd);
Batch dot_bf16(Batch a, Batch b, Batch c);
#endif

// Rows become columns: lane j of m[i] and lane i of m[j] change places.
inline void transpose(Batch (&m)[width]) {
#if defined(__AVX512F__)
  // The zero-masking forms are the plain ones without g++ 12's false warning about an undefined operand.
  constexpr __mmask16 ps = 0xffff;
  constexpr __mmask8 pd = 0xff;
  __m512 t[16], u[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_maskz_unpacklo_ps(ps, m[i], m[i + 1]);
    t[i + 1] = _mm512_maskz_unpackhi_ps(ps, m[i], m[i + 1]);
  }
#pragma GCC unroll 4
  for (int g = 0; g < 16; g += 4) {
    const __m512d a = _mm512_castps_pd(t[g]), b = _mm512_castps_pd(t[g + 1]), c = _mm512_castps_pd(t[g + 2]),
                  d = _mm512_castps_pd(t[g + 3]);
    u[g] = _mm512_castpd_ps(_mm512_maskz_unpacklo_pd(pd, a, c));
    u[g + 1] = _mm512_castpd_ps(_mm512_maskz_unpackhi_pd(pd, a, c));
    u[g + 2] = _mm512_castpd_ps(_mm512_maskz_unpacklo_pd(pd, b, d));
    u[g + 3] = _mm512_castpd_ps(_mm512_maskz_unpackhi_pd(pd, b, d));
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {  // u[g + c], 128-bit lane l: column 4 l + c of rows g .. g + 3
    const __m512 even0 = _mm512_maskz_shuffle_f32x4(ps, u[c], u[4 + c], 0x88);
    const __m512 even1 = _mm512_maskz_shuffle_f32x4(ps, u[8 + c], u[12 + c], 0x88);
    const __m512 odd0 = _mm512_maskz_shuffle_f32x4(ps, u[c], u[4 + c], 0xdd);
    const __m512 odd1 = _mm512_maskz_shuffle_f32x4(ps, u[8 + c], u[12 + c], 0xdd);
    m[c] = Batch(_mm512_maskz_shuffle_f32x4(ps, even0, even1, 0x88));
    m[4 + c] = Batch(_mm512_maskz_shuffle_f32x4(ps, odd0, odd1, 0x88));
    m[8 + c] = Batch(_mm512_maskz_shuffle_f32x4(ps, even0, even1, 0xdd));
    m[12 + c] = Batch(_mm512_maskz_shuffle_f32x4(ps, odd0, odd1, 0xdd));
  }
#elif defined(__AVX__)
  __m256 t[8], u[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(m[i], m[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(m[i], m[i + 1]);
  }
#pragma GCC unroll 2
  for (int g = 0; g < 8; g += 4) {
    u[g] = _mm256_shuffle_ps(t[g], t[g + 2], 0x44);
    u[g + 1] = _mm256_shuffle_ps(t[g], t[g + 2], 0xee);
    u[g + 2] = _mm256_shuffle_ps(t[g + 1], t[g + 3], 0x44);
    u[g + 3] = _mm256_shuffle_ps(t[g + 1], t[g + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    m[c] = Batch(_mm256_permute2f128_ps(u[c], u[4 + c], 0x20));
    m[4 + c] = Batch(_mm256_permute2f128_ps(u[c], u[4 + c], 0x31));
  }
#elif defined(__aarch64__)
  const Batch t0(vtrn1q_f32(m[0], m[1])), t1(vtrn2q_f32(m[0], m[1])), t2(vtrn1q_f32(m[2], m[3])), t3(vtrn2q_f32(m[2], m[3]));
  m[0] = upper_row(t0, t2);
  m[1] = upper_row(t1, t3);
  m[2] = lower_row(t0, t2);
  m[3] = lower_row(t1, t3);
#else
  alignas(64) float rows[width][width], columns[width][width];
  for (std::size_t i = 0; i < width; ++i) store(rows[i], m[i]);
  for (std::size_t i = 0; i < width; ++i)
    for (std::size_t j = 0; j < width; ++j) columns[j][i] = rows[i][j];
  for (std::size_t i = 0; i < width; ++i) m[i] = load(columns[i]);
#endif
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::simd

#include "../core/end.hpp"
