// SPDX-License-Identifier: Apache-2.0
// Bytes as text.
#pragma once

#include "../core/begin.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "../core/error.hpp"
#include "message.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Base64 (RFC 4648, section 4, padded): metadata is JSON text, so bytes such as a tokenizer model travel in this form.
std::string base64_encode(std::string_view bytes);

// The inverse, strict: throws Error for anything that base64_encode does not produce.
std::string base64_decode(std::string_view text);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY std::string base64_encode(std::string_view bytes) {
  constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto at = [&](std::size_t i) { return i < bytes.size() ? std::uint32_t{static_cast<unsigned char>(bytes[i])} : 0u; };
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::uint32_t w = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    out += {digits[w >> 18], digits[w >> 12 & 63], i + 1 < bytes.size() ? digits[w >> 6 & 63] : '=',
            i + 2 < bytes.size() ? digits[w & 63] : '='};
  }
  return out;
}

MOBILEDIFFUSION_BODY std::string base64_decode(std::string_view text) {
  const auto value = [](char c) -> std::uint32_t {
    if (c >= 'A' && c <= 'Z') return static_cast<std::uint32_t>(c - 'A');
    if (c >= 'a' && c <= 'z') return static_cast<std::uint32_t>(c - 'a' + 26);
    if (c >= '0' && c <= '9') return static_cast<std::uint32_t>(c - '0' + 52);
    return c == '+' ? 62 : c == '/' ? 63 : 64;
  };
  if (text.size() % 4 != 0) throw Error(detail::join({"base64: expected a multiple of 4 characters, found ", text.size()}));
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string out;
  out.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    std::uint32_t w = 0;
    for (std::size_t j = i; j < i + 4; ++j) {
      const std::uint32_t v = j >= text.size() - padding ? 0 : value(text[j]);
      if (v > 63) throw Error(detail::join({"base64: unexpected ", detail::printable(text.substr(j, 1)), " at position ", j}));
      w = w << 6 | v;
    }
    for (const int shift : {16, 8, 0}) out.push_back(static_cast<char>(w >> shift & 255));
  }
  for (std::size_t i = 0; i < padding; ++i) out.pop_back();
  if (base64_encode(std::string_view(out).substr(out.size() / 3 * 3)) != text.substr(out.size() / 3 * 4, padding == 0 ? 0 : 4))
    throw Error("base64: the bits after the last byte are not zero");
  return out;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
