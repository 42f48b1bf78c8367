// SPDX-License-Identifier: Apache-2.0
// What can be drawn: concepts with their phrases, at three levels of difficulty, and a stable hash for splits.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mobilediffusion/core/error.hpp"
#include "names.hpp"
#include "people.hpp"
#include "phrases.hpp"

namespace emoji {

// Each level begins with the concepts of the one before, at the same indices, so that training can widen.
enum class Level {
  animals_and_foods,  // 285 concepts with Unicode 15.0: animals, plants, foods and drinks
  objects,            // 849: also places, vehicles, weather, activities, tools
  all,                // 2109: also 70 roles of people x 3 genders x 6 skin tones
};

inline Level level_from(std::string_view name) {
  if (name == "animals-foods") return Level::animals_and_foods;
  if (name == "objects") return Level::objects;
  if (name == "all") return Level::all;
  throw mobilediffusion::Error("level: expected animals-foods, objects or all, found \"" + std::string(name) + "\"");
}

struct Concept {
  std::u32string code_points;
  std::string name;              // CLDR short name
  Phrase phrase;                 // what captions call it
  std::optional<Person> person;  // empty for everything that is not a person
};

class Vocabulary {
 public:
  Vocabulary(Level level, const std::vector<Entry>& entries) : level_(level) {
    for (const std::string_view group : {"Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects"}) {
      if (group == "Travel & Places" && level == Level::animals_and_foods) break;
      for (const Entry& e : entries)
        if (e.group == group) concepts_.push_back({e.code_points, e.name, phrase_for(e.name), std::nullopt});
    }
    things_ = concepts_.size();
    if (things_ == 0) throw mobilediffusion::Error("emoji names: expected entries of the group Animals & Nature, found none");
    if (level != Level::all) return;
    for (const PersonEntry& p : complete_roles(entries)) {
      const std::string noun = person_noun(p.person);
      concepts_.push_back({p.entry.code_points, p.entry.name, {indefinite_article(noun), noun, ""}, p.person});
    }
  }

  // At most `count` of the concepts that are no people, evenly spread: a vocabulary that is learnt sooner.
  Vocabulary some(std::size_t count) const {
    if (count == 0) throw mobilediffusion::Error("vocabulary: expected at least 1 concept, found 0");
    Vocabulary out = *this;
    out.things_ = std::min(count, things_);
    out.concepts_.clear();
    for (std::size_t k = 0; k < out.things_; ++k) out.concepts_.push_back(concepts_[k * things_ / out.things_]);
    return out;
  }

  Level level() const { return level_; }
  std::size_t size() const { return concepts_.size(); }
  std::size_t things() const { return things_; }  // concepts 0..things() - 1 are no people
  const Concept& operator[](std::size_t i) const { return concepts_[i]; }
  auto begin() const { return concepts_.begin(); }
  auto end() const { return concepts_.end(); }

  // The index of a CLDR short name. Throws mobilediffusion::Error if there is none.
  std::size_t find(std::string_view name) const {
    const auto at = std::find_if(begin(), end(), [&](const Concept& c) { return c.name == name; });
    if (at == end()) throw mobilediffusion::Error("vocabulary: expected a known CLDR name, found \"" + std::string(name) + "\"");
    return static_cast<std::size_t>(at - begin());
  }

  // What a picture of concept i is told apart from: the 18 cells of its role, or all concepts that are no people.
  std::pair<std::size_t, std::size_t> rivals(std::size_t i) const {
    if (i < things_) return {0, things_};
    const std::size_t first = things_ + (i - things_) / 18 * 18;
    return {first, first + 18};
  }

 private:
  Level level_;
  std::size_t things_ = 0;
  std::vector<Concept> concepts_;
};

// A number that depends on the words only, so that splits do not move with seeds, levels or versions of the list:
// FNV-1a, then the finalizer of MurmurHash3 to mix the low bits.
inline std::uint64_t stable_hash(std::initializer_list<std::string_view> words) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const std::string_view word : words) {
    for (const char c : word) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    h = (h ^ 0xff) * 0x100000001b3u;  // ends the word: {"ab", "c"} is not {"a", "bc"}
  }
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
  h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
  return h ^ (h >> 33);
}

}  // namespace emoji
