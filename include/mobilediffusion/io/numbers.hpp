// SPDX-License-Identifier: Apache-2.0
// Numbers in the texts of files, the same in every locale.
#pragma once

#include "../core/begin.hpp"

#include <charconv>
#include <concepts>
#include <cstdint>
#include <limits>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

// Streams are for standard libraries that convert whole numbers only: libc++ before version 20.
template <std::floating_point Number>
bool stream_number(std::string_view text, Number& value) {
  if (text.empty() || text.front() == '+' || text.find_first_not_of("0123456789.+-eE") != std::string_view::npos) return false;
  std::istringstream stream{std::string(text)};
  stream.imbue(std::locale::classic());
  return stream >> value && stream.peek() == std::istringstream::traits_type::eof();
}
template <std::floating_point Number>
std::string stream_text(Number value) {
  std::ostringstream stream;
  stream.imbue(std::locale::classic());
  stream.precision(std::numeric_limits<Number>::max_digits10);
  stream << value;
  return stream.str();
}

// The whole text as a number. False for anything else, and for one that the type cannot hold; then value is not to be used.
template <class Number>
bool parse_number(std::string_view text, Number& value) {
#if !defined(__cpp_lib_to_chars)
  if constexpr (std::floating_point<Number>) return stream_number(text, value);
  else
#endif
  {
    const auto r = std::from_chars(text.data(), text.data() + text.size(), value);
    return r.ec == std::errc() && r.ptr == text.data() + text.size();
  }
}

// Digits that parse_number reads back as the same number.
template <std::floating_point Number>
std::string number_text(Number value) {
#if defined(__cpp_lib_to_chars)
  char text[64];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
#else
  return stream_text(value);
#endif
}

std::string hexadecimal(std::uint64_t value);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY std::string hexadecimal(std::uint64_t value) {
  char text[16];
  return {text, std::to_chars(text, text + 16, value, 16).ptr};
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
