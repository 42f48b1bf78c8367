// SPDX-License-Identifier: Apache-2.0
// What tokenizers need of Unicode: Normalization Form C, lower case and classes of characters, by utf8proc (whose version of
// Unicode holds; Debian 12: 15.0). The only header that includes it.
#pragma once

#include "../core/begin.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

enum class CharacterClass { space, letter, number, other };  // White_Space, L*, N*; unassigned and private ones are other

CharacterClass class_of(char32_t c);

// The code point that begins at text[at]; at moves behind it. text: well-formed UTF-8.
char32_t next_code_point(std::string_view text, std::size_t& at);

void append_utf8(std::string& out, char32_t c);

// Lower case of one character, whatever stands beside it: U+0130 becomes an i and a dot above, a sigma at the end stays one.
void append_lower(std::string& out, char32_t c);

// Normalization Form C (UAX 15). text: well-formed UTF-8.
std::u32string normalization_form_c(std::string_view text);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY CharacterClass class_of(char32_t c) {
  if ((c >= 0x09 && c <= 0x0D) || c == 0x85) return CharacterClass::space;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return CharacterClass::space;
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharacterClass::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharacterClass::number;
    default:
      return CharacterClass::other;
  }
}

MOBILEDIFFUSION_BODY char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = [&] { return static_cast<unsigned char>(text[at++]); };
  const char32_t first = byte();
  if (first < 0x80) return first;
  char32_t c = first < 0xE0 ? first & 0x1F : first < 0xF0 ? first & 0x0F : first & 0x07;
  for (int more = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3; more > 0; --more) c = c << 6 | (byte() & 0x3Fu);
  return c;
}

MOBILEDIFFUSION_BODY void append_utf8(std::string& out, char32_t c) {
  const auto byte = [&](char32_t b) { out += static_cast<char>(static_cast<unsigned char>(b)); };
  if (c < 0x80) return byte(c);
  if (c < 0x800) {
    byte(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      byte(0xE0 | c >> 12);
    } else {
      byte(0xF0 | c >> 18);
      byte(0x80 | (c >> 12 & 0x3F));
    }
    byte(0x80 | (c >> 6 & 0x3F));
  }
  byte(0x80 | (c & 0x3F));
}

MOBILEDIFFUSION_BODY void append_lower(std::string& out, char32_t c) {
  append_utf8(out, c == 0x130 ? U'i' : static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  if (c == 0x130) append_utf8(out, 0x307);
}

MOBILEDIFFUSION_BODY std::u32string normalization_form_c(std::string_view text) {
  const auto check = [](utf8proc_ssize_t result) {
    if (result < 0) throw Error(std::string("text: cannot be normalized: ") + utf8proc_errmsg(result));
    return static_cast<std::size_t>(result);
  };
  const auto order = [](utf8proc_int32_t c) { return static_cast<std::uint16_t>(utf8proc_get_property(c)->combining_class); };
  std::vector<utf8proc_int32_t> buffer;
  buffer.reserve(text.size() + 8);
  for (std::size_t at = 0; at < text.size();) {
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(text, at));
    utf8proc_int32_t parts[8];  // Unicode's longest has 4
    const std::size_t n = check(utf8proc_decompose_char(c, parts, 8, UTF8PROC_DECOMPOSE, nullptr));
    if (n > 8) throw Error("text: cannot be normalized: a character of more than 8 parts");
    buffer.insert(buffer.end(), parts, parts + n);
  }
  // Marks in their canonical order. utf8proc's own way takes quadratic time for many of them.
  for (auto begin = buffer.begin(); begin != buffer.end();) {
    const auto end = std::find_if(begin, buffer.end(), [&](utf8proc_int32_t c) { return order(c) == 0; });
    // By class and place. (clang warns of libstdc++ 12's std::stable_sort in C++23.)
    if (end - begin > 1) {
      std::vector<std::pair<std::uint64_t, utf8proc_int32_t>> marks;
      for (auto mark = begin; mark != end; ++mark)
        marks.emplace_back(std::uint64_t{order(*mark)} << 32 | static_cast<std::uint64_t>(mark - begin), *mark);
      std::sort(marks.begin(), marks.end());
      std::transform(marks.begin(), marks.end(), begin, [](const auto& mark) { return mark.second; });
    }
    begin = end == buffer.end() ? end : end + 1;
  }
  constexpr auto composed = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  buffer.resize(check(utf8proc_normalize_utf32(buffer.data(), static_cast<utf8proc_ssize_t>(buffer.size()), composed)));
  return {buffer.begin(), buffer.end()};
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
