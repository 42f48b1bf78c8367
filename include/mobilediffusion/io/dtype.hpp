// SPDX-License-Identifier: Apache-2.0
// The element types of safetensors, and floats from and to those that weights are stored in.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>

#include "../core/error.hpp"
#include "../core/number_formats.hpp"
#include "../core/reinterpret_bits.hpp"
#include "message.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

static_assert(std::endian::native == std::endian::little,
              "mobilediffusion: safetensors holds little-endian numbers; port convert_*");

enum class Dtype : std::uint8_t { boolean, u8, i8, f8_e4m3, f8_e5m2, u16, i16, f16, bf16, u32, i32, f32, u64, i64, f64 };

namespace detail {
struct DtypeName {
  Dtype dtype;
  std::string_view name;
  std::size_t size;
};
inline constexpr std::array<DtypeName, 15> dtype_names{{{Dtype::boolean, "BOOL", 1},
                                                        {Dtype::u8, "U8", 1},
                                                        {Dtype::i8, "I8", 1},
                                                        {Dtype::f8_e4m3, "F8_E4M3", 1},
                                                        {Dtype::f8_e5m2, "F8_E5M2", 1},
                                                        {Dtype::u16, "U16", 2},
                                                        {Dtype::i16, "I16", 2},
                                                        {Dtype::f16, "F16", 2},
                                                        {Dtype::bf16, "BF16", 2},
                                                        {Dtype::u32, "U32", 4},
                                                        {Dtype::i32, "I32", 4},
                                                        {Dtype::f32, "F32", 4},
                                                        {Dtype::u64, "U64", 8},
                                                        {Dtype::i64, "I64", 8},
                                                        {Dtype::f64, "F64", 8}}};
}  // namespace detail

inline constexpr std::size_t size_of(Dtype dtype) { return detail::dtype_names[static_cast<std::size_t>(dtype)].size; }
inline constexpr std::string_view name_of(Dtype dtype) { return detail::dtype_names[static_cast<std::size_t>(dtype)].name; }

namespace detail {

// Same results as from_fp16, selected by masks instead of branches, so that compilers vectorise it.
inline constexpr float widen_fp16(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3FFu;
  const std::uint32_t is_subnormal = 0u - static_cast<std::uint32_t>(e == 0),
                      is_special = 0u - static_cast<std::uint32_t>(e == 31);
  const std::uint32_t subnormal = reinterpret_bits<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(m)) * 0x1p-24f);
  const std::uint32_t normal = ((e + 112u) << 23) | (m << 13), special = 0x7F800000u | (m << 13);
  return reinterpret_bits<float>(sign | (subnormal & is_subnormal) | (special & is_special) |
                                 (normal & ~is_subnormal & ~is_special));
}

template <class T>
inline T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}
template <class T>
inline void store(std::byte* p, T value) {
  std::memcpy(p, &value, sizeof(T));
}

// Sign, four bits of exponent, three of mantissa; all ones are NaN.
inline constexpr std::array<float, 256> f8_e4m3_values = [] {
  std::array<float, 256> values{};
  for (unsigned bits = 0; bits < 256; ++bits) {
    const unsigned e = (bits >> 3) & 15u, m = bits & 7u;
    float x = static_cast<float>(e == 0 ? m : 8u + m) * 0x1p-9f;
    for (unsigned i = 1; i < e; ++i) x *= 2.0f;
    values[bits] = (bits & 127u) == 127u ? std::numeric_limits<float>::quiet_NaN() : (bits & 128u) != 0 ? -x : x;
  }
  return values;
}();

}  // namespace detail

// The dtypes that are numbers for weights. F8_E4M3 has no infinity (arXiv 2209.05433, table 1).
inline constexpr bool is_float(Dtype dtype) {
  return dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16 || dtype == Dtype::f8_e4m3 || dtype == Dtype::f8_e5m2;
}
inline constexpr const char* float_dtypes = "F32, F16, BF16, F8_E4M3 or F8_E5M2";

// Widens values of a float dtype to out[bytes.size() / size_of(dtype)]; bytes need not be aligned.
// Throws Error for other dtypes, or bytes that are not whole elements.
void convert_to_floats(Dtype dtype, std::span<const std::byte> bytes, float* out);

// Rounds floats to F32, F16 or BF16; out.size() must be floats.size() * size_of(dtype). Throws Error.
void convert_from_floats(Dtype dtype, std::span<const float> floats, std::span<std::byte> out);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY void convert_to_floats(Dtype dtype, std::span<const std::byte> bytes, float* out) {
  const std::byte* in = bytes.data();
  const std::size_t n = bytes.size() / size_of(dtype);
  if (bytes.size() % size_of(dtype) != 0) throw Error("convert_to_floats: the bytes are not whole elements");
  if (dtype == Dtype::f32) {
    if (n != 0) std::memcpy(out, in, bytes.size());
  } else if (dtype == Dtype::bf16) {
    for (std::size_t i = 0; i < n; ++i) out[i] = from_bf16(detail::load<std::uint16_t>(in + 2 * i));
  } else if (dtype == Dtype::f16) {
    for (std::size_t i = 0; i < n; ++i) out[i] = detail::widen_fp16(detail::load<std::uint16_t>(in + 2 * i));
  } else if (dtype == Dtype::f8_e5m2) {  // the upper half of an F16
    for (std::size_t i = 0; i < n; ++i)
      out[i] = detail::widen_fp16(static_cast<std::uint16_t>(std::to_integer<unsigned>(in[i]) << 8));
  } else if (dtype == Dtype::f8_e4m3) {
    for (std::size_t i = 0; i < n; ++i) out[i] = detail::f8_e4m3_values[std::to_integer<std::size_t>(in[i])];
  } else {
    throw Error(detail::join({"dtype ", name_of(dtype), ": expected ", float_dtypes, " to read as floats"}));
  }
}

MOBILEDIFFUSION_BODY void convert_from_floats(Dtype dtype, std::span<const float> floats, std::span<std::byte> out) {
  if (out.size() / size_of(dtype) != floats.size() || out.size() % size_of(dtype) != 0)
    throw Error(detail::join({"convert_from_floats: ", floats.size(), " floats do not fill ", out.size(), " bytes"}));
  if (dtype == Dtype::f32) {
    if (!floats.empty()) std::memcpy(out.data(), floats.data(), out.size());
  } else if (dtype == Dtype::bf16) {
    for (std::size_t i = 0; i < floats.size(); ++i) detail::store(out.data() + 2 * i, to_bf16(floats[i]));
  } else if (dtype == Dtype::f16) {
    for (std::size_t i = 0; i < floats.size(); ++i) detail::store(out.data() + 2 * i, to_fp16(floats[i]));
  } else {
    throw Error(detail::join({"dtype ", name_of(dtype), ": expected F32, F16 or BF16 to write floats"}));
  }
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
