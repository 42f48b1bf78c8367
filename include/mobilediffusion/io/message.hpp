// SPDX-License-Identifier: Apache-2.0
// The texts of errors: pieces joined by one function, because chains of std::string's + are slow to compile.
#pragma once

#include "../core/begin.hpp"

#include <charconv>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

// Text or a whole number, for the duration of one call.
class Piece {
 public:
  Piece(const char* text) : text_(text) {}         // NOLINT(google-explicit-constructor): a list of mixed things
  Piece(std::string_view text) : text_(text) {}    // NOLINT(google-explicit-constructor)
  Piece(const std::string& text) : text_(text) {}  // NOLINT(google-explicit-constructor)
  template <std::integral Number>
  Piece(Number number) {  // NOLINT(google-explicit-constructor)
    length_ = static_cast<std::size_t>(std::to_chars(digits_, digits_ + sizeof(digits_), number).ptr - digits_);
  }
  std::string_view view() const { return length_ == 0 ? text_ : std::string_view(digits_, length_); }

 private:
  std::string_view text_{};
  std::size_t length_ = 0;
  char digits_[24]{};
};

std::string join(std::initializer_list<Piece> pieces);

// Text from a file or a user in one printable line of bounded length.
std::string printable(std::string_view text);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY std::string join(std::initializer_list<Piece> pieces) {
  std::string out;
  for (const Piece& piece : pieces) out += piece.view();
  return out;
}

MOBILEDIFFUSION_BODY std::string printable(std::string_view text) {
  constexpr std::size_t longest = 160;
  std::string out = "\"";
  for (const char c : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7F && byte != '"' && byte != '\\') {
      out += c;
    } else {
      constexpr char hex[] = "0123456789abcdef";
      out += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
    }
  }
  out += text.size() > longest ? "...\"" : "\"";
  return out;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
