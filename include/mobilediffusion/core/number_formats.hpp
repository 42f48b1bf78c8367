// SPDX-License-Identifier: Apache-2.0
// Number formats of weights, and half precision as plain integers: conversions without hardware or compiler support.
#pragma once

#include "begin.hpp"

#include <cstdint>

#include "reinterpret_bits.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// What matrices of weights are stored and multiplied as in inference; sums are fp32 (int8: int32 within a block of K).
enum class Format {
  fp32,
  bf16,  // weights and inputs rounded to bf16
  int8,  // weights symmetric with a scale for each output; inputs 8 bits of their row's range, measured as they pass
};
constexpr const char* name_of(Format f) { return f == Format::fp32 ? "fp32" : f == Format::bf16 ? "bf16" : "int8"; }

// bfloat16: the upper half of an fp32, rounded to nearest even; NaN stays NaN.
inline constexpr std::uint16_t to_bf16(float x) {
  const std::uint32_t u = reinterpret_bits<std::uint32_t>(x);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>((u >> 16) | 0x40u);
  return static_cast<std::uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
}
inline constexpr float from_bf16(std::uint16_t h) { return reinterpret_bits<float>(static_cast<std::uint32_t>(h) << 16); }

// IEEE binary16, rounded to nearest even, subnormals kept, overflow to infinity.
inline constexpr std::uint16_t to_fp16(float x) {
  const std::uint32_t u = reinterpret_bits<std::uint32_t>(x), sign = (u >> 16) & 0x8000u, a = u & 0x7FFFFFFFu;
  if (a > 0x7F800000u) return static_cast<std::uint16_t>(sign | 0x7E00u);
  if (a >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7C00u);
  if (a < 0x38800000u) {  // subnormal half: add a constant that aligns the mantissa, let fp32 addition round
    const float f = reinterpret_bits<float>(a) + 0.5f;
    return static_cast<std::uint16_t>(sign | (reinterpret_bits<std::uint32_t>(f) - 0x3F000000u));
  }
  const std::uint32_t r = a + 0xFFFu + ((a >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((r - 0x38000000u) >> 13));
}
inline constexpr float from_fp16(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3FFu;
  if (e == 31) return reinterpret_bits<float>(sign | 0x7F800000u | (m << 13));
  if (e == 0) {
    const float f = static_cast<float>(m) * 0x1p-24f;
    return sign != 0 ? -f : f;
  }
  return reinterpret_bits<float>(sign | ((e + 112u) << 23) | (m << 13));
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
