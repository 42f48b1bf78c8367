// SPDX-License-Identifier: Apache-2.0
// People: roles in three genders and six skin tones, a complete factorial with three kinds of held-out cells.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "names.hpp"

namespace emoji {

inline constexpr std::array<std::string_view, 3> genders{"man", "woman", "person"};
inline constexpr std::array<std::string_view, 6> skin_tones{"", "light", "medium-light", "medium", "medium-dark", "dark"};

// One cell of the factorial.
struct Person {
  std::string role;         // such as "pilot", "juggling" or "with red hair"
  std::size_t role_id = 0;  // index of the role in sorted order
  std::size_t gender = 0;   // index into genders
  std::size_t tone = 0;     // index into skin_tones; 0: the default yellow
};

enum class PersonSplit {
  training,
  cell,         // A: this cell only; its role x tone and its role x gender occur in training
  role_tone,    // B: this role never has this tone in training
  role_gender,  // C: this role never has this gender in training
};

inline PersonSplit split_of(const Person& p) {
  const std::size_t q = p.role_id, g = p.gender, t = p.tone;
  if (q % 10 == 3 && g == q / 10 % 3) return PersonSplit::role_gender;
  if (q % 5 == 0 && t == 1 + q / 5 % 5) return PersonSplit::role_tone;
  if ((6 * g + t) % 9 == q % 9) return PersonSplit::cell;
  return PersonSplit::training;
}

// How captions write a role that CLDR abbreviates; the order of roles stays that of CLDR's words.
inline std::string_view role_in_words(std::string_view role) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 17> better{{
      {"bouncing ball", "bouncing a ball"},
      {"feeding baby", "feeding a baby"},
      {"gesturing NO", "gesturing no"},
      {"gesturing OK", "gesturing ok"},
      {"getting haircut", "getting a haircut"},
      {"getting massage", "getting a massage"},
      {"in lotus position", "in the lotus position"},
      {"in manual wheelchair", "in a manual wheelchair"},
      {"in motorized wheelchair", "in a motorized wheelchair"},
      {"in steamy room", "in a steamy room"},
      {"in tuxedo", "in a tuxedo"},
      {"rowing boat", "rowing a boat"},
      {"tipping hand", "tipping a hand"},
      {"raising hand", "raising a hand"},
      {"wearing turban", "wearing a turban"},
      {"with veil", "with a veil"},
      {"with white cane", "with a white cane"},
  }};
  for (const auto& [cldr, words] : better)
    if (role == cldr) return words;
  return role;
}

// "a woman astronaut with medium-dark skin tone", "a man with a beard and light skin tone", "an artist".
inline std::string person_noun(const Person& p) {
  const std::string role(role_in_words(p.role));
  const std::string gender(genders[p.gender]);
  const std::string tone = p.tone == 0 ? "" : std::string(skin_tones[p.tone]) + " skin tone";
  // What a person does or has follows the gender even when that is "person"; a profession stands alone.
  const bool describes = detail::starts_with(role, "with ") || detail::starts_with(role, "in ") ||
                         role.find("ing ") != std::string::npos || detail::ends_with(role, "ing");
  std::string noun;
  if (role.empty()) {
    noun = gender;
  } else if (role == "bald") {
    noun = "bald " + gender;
  } else if (describes) {
    noun = gender + " " + role;
  } else {
    noun = (p.gender == 2 ? "" : gender + " ") + role;
  }
  if (tone.empty()) return noun;
  const bool has_with = detail::starts_with(role, "with ");
  return noun + (has_with ? " and " : " with ") + tone;
}

struct PersonEntry {
  Entry entry;
  Person person;
};

// The roles of which all 3 x 6 cells exist, in sorted order, each role's cells by gender, then tone.
inline std::vector<PersonEntry> complete_roles(const std::vector<Entry>& entries) {
  // "woman pilot: dark skin tone", "pilot: ...", "person juggling: ...", "man: light skin tone, red hair".
  std::map<std::string, std::array<const Entry*, 18>> roles;
  for (const Entry& e : entries) {
    if (e.group != "People & Body" || !detail::starts_with(e.subgroup, "person")) continue;
    const auto colon = e.name.find(": ");
    std::string base = e.name.substr(0, colon), feature;
    std::string_view rest = colon == std::string::npos ? std::string_view{} : std::string_view(e.name).substr(colon + 2);
    std::size_t tone = 0, tones = 0;
    while (!rest.empty()) {
      const auto comma = rest.find(", ");
      const std::string_view part = rest.substr(0, comma);
      rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 2);
      if (detail::ends_with(part, " skin tone")) {
        const auto found = std::find(skin_tones.begin(), skin_tones.end(), part.substr(0, part.size() - 10));
        if (found != skin_tones.end()) {
          tone = static_cast<std::size_t>(found - skin_tones.begin());
          ++tones;
        }
      } else {
        feature = part;
      }
    }
    if (tones > 1) continue;
    std::size_t gender = 2;
    std::string role = base;
    for (std::size_t g = 0; g < genders.size(); ++g) {
      if (base == genders[g]) {
        gender = g;
        role.clear();
      }
      if (detail::starts_with(base, std::string(genders[g]) + " ")) {
        gender = g;
        role = base.substr(genders[g].size() + 1);
      }
    }
    if (feature == "bald") role = "bald";
    else if (feature == "beard") role = "with a beard";
    else if (!feature.empty()) role = "with " + feature;
    auto& cells = roles[role];
    // "pilot" and "person pilot" would be one role: the first in the file keeps the cell.
    if (cells[gender * 6 + tone] == nullptr) cells[gender * 6 + tone] = &e;
  }
  std::vector<PersonEntry> out;
  std::size_t role_id = 0;
  for (const auto& [role, cells] : roles) {
    if (std::find(cells.begin(), cells.end(), nullptr) != cells.end()) continue;
    for (std::size_t i = 0; i < cells.size(); ++i) out.push_back({*cells[i], {role, role_id, i / 6, i % 6}});
    ++role_id;
  }
  return out;
}

}  // namespace emoji
