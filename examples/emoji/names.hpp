// SPDX-License-Identifier: Apache-2.0
// The list of emoji: code points, CLDR names and groups out of Unicode's emoji-test.txt.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <istream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "mobilediffusion/core/error.hpp"

namespace emoji {

// Where Debian's unicode-data package puts the list.
inline constexpr const char* default_names_path = "/usr/share/unicode/emoji/emoji-test.txt";

struct Entry {
  std::u32string code_points;  // the fully-qualified sequence, joiners and variation selectors included
  std::string name;            // CLDR short name in UTF-8, such as "red apple" or "woman pilot: dark skin tone"
  std::string group;           // such as "Food & Drink"
  std::string subgroup;        // such as "food-fruit"
};

namespace detail {

inline std::string_view trimmed(std::string_view s) {
  const auto first = s.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(" \t\r") - first + 1);
}

// The second word on: "🦊 E3.0 fox" -> "E3.0 fox".
inline std::string_view after_word(std::string_view s) {
  s = trimmed(s);
  const auto space = s.find(' ');
  return space == std::string_view::npos ? std::string_view{} : trimmed(s.substr(space));
}

inline bool starts_with(std::string_view s, std::string_view prefix) { return s.substr(0, prefix.size()) == prefix; }
inline bool ends_with(std::string_view s, std::string_view suffix) {
  return s.size() >= suffix.size() && s.substr(s.size() - suffix.size()) == suffix;
}

}  // namespace detail

// The fully-qualified entries in the order of the file (format: UTS #51). Throws mobilediffusion::Error with the line number.
inline std::vector<Entry> parse_names(std::istream& in, const std::string& file = "emoji-test.txt") {
  std::vector<Entry> entries;
  std::string line, group, subgroup;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    const std::string_view text = detail::trimmed(line);
    if (detail::starts_with(text, "# group:")) group = detail::trimmed(text.substr(8));
    if (detail::starts_with(text, "# subgroup:")) subgroup = detail::trimmed(text.substr(11));
    if (text.empty() || text.front() == '#') continue;
    const auto fail = [&](const std::string& what) {
      throw mobilediffusion::Error(file + ", line " + std::to_string(number) + ": " + what);
    };
    const auto semicolon = text.find(';'), hash = text.find('#');
    if (semicolon == std::string_view::npos || hash == std::string_view::npos || hash < semicolon)
      fail("expected \"code points; status # emoji name\", found \"" + line + "\"");
    if (detail::trimmed(text.substr(semicolon + 1, hash - semicolon - 1)) != "fully-qualified") continue;

    Entry entry{{}, std::string(detail::after_word(detail::after_word(text.substr(hash + 1)))), group, subgroup};
    for (std::string_view codes = detail::trimmed(text.substr(0, semicolon)); !codes.empty(); codes = detail::after_word(codes)) {
      std::uint32_t value = 0;
      const auto end = codes.data() + std::min(codes.find(' '), codes.size());
      const auto [stop, error] = std::from_chars(codes.data(), end, value, 16);
      if (error != std::errc{} || stop != end) fail("expected hexadecimal code points, found \"" + std::string(codes) + "\"");
      entry.code_points.push_back(static_cast<char32_t>(value));
    }
    if (entry.name.empty() || entry.code_points.empty()) fail("expected code points and a name, found \"" + line + "\"");
    entries.push_back(std::move(entry));
  }
  return entries;
}

// The same from a file. Throws mobilediffusion::Error if it cannot be read or has no entry.
inline std::vector<Entry> read_names(const std::string& path = default_names_path) {
  std::ifstream in(path);
  if (!in) throw mobilediffusion::Error("emoji names: expected a readable file, found none at " + path);
  auto entries = parse_names(in, path);
  if (entries.empty()) throw mobilediffusion::Error("emoji names: expected fully-qualified entries, found none in " + path);
  return entries;
}

}  // namespace emoji
