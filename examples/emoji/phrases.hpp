// SPDX-License-Identifier: Apache-2.0
// CLDR short names to English noun phrases: articles, plurals and a table for what rules get wrong.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "names.hpp"
#include "phrase_table.hpp"

namespace emoji {

// "a" + "fox", plural "foxes". No plural: a thing of which there is one ("the Kaaba"), kept out of counts and sizes.
struct Phrase {
  std::string article;  // "a", "an", "the" or empty
  std::string noun;     // such as "loaf of bread"
  std::string plural;   // such as "loaves of bread"; empty if the thing is unique
  std::string with_article() const { return article.empty() ? noun : article + " " + noun; }
};

// "a" or "an" by the sound that the text starts with.
inline std::string indefinite_article(std::string_view text) {
  using detail::starts_with;
  for (const auto prefix : {"hourglass", "x-ray", "8 "})  // sound like vowels
    if (starts_with(text, prefix)) return "an";
  for (const auto prefix : {"unicorn", "uniform", "ewe", "one-", "euro", "ukulele"})  // sound like consonants
    if (starts_with(text, prefix)) return "a";
  return !text.empty() && std::string_view("aeiouAEIOU").find(text.front()) != std::string_view::npos ? "an" : "a";
}

// The plural of one word.
inline std::string plural_word(std::string_view word) {
  using detail::ends_with;
  // Whole words, or the end of a compound (snowman, jellyfish).
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 31> irregular{{
      {"mouse", "mice"},        {"goose", "geese"},       {"mongoose", "mongooses"}, {"ox", "oxen"},
      {"leaf", "leaves"},       {"loaf", "loaves"},       {"sheaf", "sheaves"},      {"knife", "knives"},
      {"wolf", "wolves"},       {"scarf", "scarves"},     {"fish", "fish"},          {"jellyfish", "jellyfish"},
      {"blowfish", "blowfish"}, {"sheep", "sheep"},       {"deer", "deer"},          {"moose", "moose"},
      {"bison", "bison"},       {"buffalo", "buffalo"},   {"squid", "squid"},        {"shrimp", "shrimp"},
      {"snowman", "snowmen"},   {"tomato", "tomatoes"},   {"potato", "potatoes"},    {"mango", "mangoes"},
      {"volcano", "volcanoes"}, {"tornado", "tornadoes"}, {"cactus", "cacti"},       {"die", "dice"},
      {"moai", "moai"},         {"man", "men"},           {"woman", "women"},
  }};
  for (const auto& [one, many] : irregular)
    if (word == one) return std::string(many);
  const std::string text(word);
  for (const auto ending : {"s", "x", "z", "ch", "sh"})
    if (ends_with(word, ending)) return text + "es";
  if (ends_with(word, "y") && word.size() > 1 && std::string_view("aeiou").find(word[word.size() - 2]) == std::string_view::npos)
    return text.substr(0, text.size() - 1) + "ies";
  return text + "s";
}

// The plural of a noun phrase: of its head, the last word before a preposition ("glass of milk" -> "glasses of milk").
inline std::string plural_phrase(const std::string& noun) {
  std::size_t end = noun.size();
  for (const auto word : {" of ", " with ", " without ", " in ", " on ", " at ", " over ", " behind ", " under ", " showing ",
                          " pouring ", " facing ", " fluttering ", " taking ", " landing", " tilted "})
    end = std::min(end, noun.find(word));
  const auto space = noun.rfind(' ', end == noun.size() ? std::string::npos : end - 1);
  const std::size_t begin = space == std::string::npos ? 0 : space + 1;
  return noun.substr(0, begin) + plural_word(std::string_view(noun).substr(begin, end - begin)) + noun.substr(end);
}

// The phrase for a CLDR short name.
inline Phrase phrase_for(const std::string& cldr_name) {
  static constexpr std::string_view typographic = "\xE2\x80\x99";  // U+2019, the apostrophe that nobody types
  std::string name;
  for (std::size_t i = 0; i < cldr_name.size(); ++i) {
    const bool found = std::string_view(cldr_name).substr(i, typographic.size()) == typographic;
    name += found ? '\'' : cldr_name[i];
    if (found) i += typographic.size() - 1;
  }
  std::string noun = name, plural;
  for (const PhraseRow& row : phrase_table)
    if (row.name == name) {
      noun = row.noun;
      plural = row.plural;
    }
  if (detail::ends_with(name, " o'clock") || detail::ends_with(name, "-thirty")) noun = "clock showing " + name;
  if (detail::starts_with(noun, "the ")) return {"the", noun.substr(4), ""};
  if (detail::starts_with(noun, "=")) return {"", noun.substr(1), ""};
  return {indefinite_article(noun), noun, plural.empty() ? plural_phrase(noun) : plural};
}

}  // namespace emoji
