// SPDX-License-Identifier: Apache-2.0
// What the captions were made of that a model learnt, as its file's metadata tell it: prompts of other words draw something too,
// and only this says that it was a guess.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "message.hpp"
#include "safetensors.hpp"
#include "unicode.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// The words of a text in lower case. White space and ASCII's signs, other than those inside of words, stand between them.
std::vector<std::string> words_of(std::string_view text);

class KnownWords {
 public:
  // In metadata: "a fox / foxes; a red apple / red apples", and for each word those that followed it: "^: a an; a: fox red; fox:
  // on". ^ is the beginning of a caption.
  static constexpr const char *things_key = "training.things", *pairs_key = "training.pairs";

  KnownWords() = default;
  explicit KnownWords(const Metadata& metadata);

  bool empty() const { return words_.empty(); }
  // "a fox / foxes": what it draws, in the order of the data.
  const std::vector<std::string>& things() const { return things_; }
  // All words of the captions, in lower case.
  const std::set<std::string>& words() const { return words_; }
  void add_thing(const std::string& thing) { things_.push_back(thing); }
  void add_caption(std::string_view caption);
  void write(Metadata& metadata) const;

  // What of a prompt is not in the captions: words, then pairs of words, then its beginning. Empty where all is, or where nothing
  // is known of the captions.
  std::string strange_in(std::string_view prompt) const;

  // One thing a line, and the words beside them.
  std::string list() const;

 private:
  static std::vector<std::string> split(const std::string& text, const std::string& between);
  void add(const std::string& first, const std::string& second);
  // The known word that is nearest, if a slip of the finger or two would make it: " (fox?)".
  std::string guess(const std::string& word) const;
  // Levenshtein's: letters that are put in, left out or changed.
  static std::size_t distance(std::string_view a, std::string_view b);

  std::vector<std::string> things_;
  std::map<std::string, std::set<std::string>> pairs_;
  std::set<std::string> words_;
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char32_t c : normalization_form_c(text)) {
    const bool sign = c < 0x80 && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && c != '-' && c != '\'';
    if (!sign && class_of(c) != CharacterClass::space) append_lower(words.back(), c == 0x2019 ? U'\'' : c);
    else if (!words.back().empty()) words.emplace_back();
  }
  std::erase_if(words, [](const std::string& w) { return w.find_first_not_of("-'") == std::string::npos; });
  return words;
}

MOBILEDIFFUSION_BODY KnownWords::KnownWords(const Metadata& metadata) {
  const auto text_of = [&](const char* key) {
    const auto at = metadata.find(key);
    return at == metadata.end() ? std::string() : at->second;
  };
  for (const std::string& thing : split(text_of(things_key), "; ")) things_.push_back(thing);
  for (const std::string& entry : split(text_of(pairs_key), "; ")) {
    const std::size_t colon = entry.find(": ");
    if (colon == std::string::npos) continue;
    for (const std::string& next : split(entry.substr(colon + 2), " ")) add(entry.substr(0, colon), next);
  }
}

MOBILEDIFFUSION_BODY void KnownWords::add_caption(std::string_view caption) {
  std::string before = "^";
  for (const std::string& word : words_of(caption)) add(std::exchange(before, word), word);
}

MOBILEDIFFUSION_BODY void KnownWords::write(Metadata& metadata) const {
  std::string pairs, things;
  for (const auto& [first, seconds] : pairs_) {
    pairs += (pairs.empty() ? "" : "; ") + first + ":";
    for (const std::string& second : seconds) pairs += " " + second;
  }
  for (const std::string& thing : things_) things += (things.empty() ? "" : "; ") + thing;
  metadata[pairs_key] = pairs;
  metadata[things_key] = things;
}

MOBILEDIFFUSION_BODY std::string KnownWords::strange_in(std::string_view prompt) const {
  if (empty()) return {};
  std::vector<std::string> words, pairs;
  std::string before = "^", first;
  const auto note = [](std::vector<std::string>& list, const std::string& text) {
    if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
  };
  for (const std::string& word : words_of(prompt)) {
    const auto known = pairs_.find(before);
    if (!words_.contains(word)) note(words, detail::printable(word) + guess(word));
    else if (known != pairs_.end() && !known->second.contains(word) && before == "^") first = detail::printable(word);
    else if (before != "^" && words_.contains(before) && (known == pairs_.end() || !known->second.contains(word)))
      note(pairs, detail::printable(before + " " + word));
    before = word;
  }
  std::string out;
  const auto say = [&](const char* what, const std::vector<std::string>& list) {
    constexpr std::size_t most = 8;
    for (std::size_t i = 0; i < std::min(list.size(), most); ++i)
      out += (i > 0 ? ", " : (out.empty() ? "" : "; ") + std::string(what) + " ") + list[i];
    if (list.size() > most) out += detail::join({" and ", list.size() - most, " more"});
  };
  say("never seen in training:", words);
  say("never seen in this order:", pairs);
  say("never seen at the beginning:", first.empty() ? std::vector<std::string>{} : std::vector{first});
  return out;
}

MOBILEDIFFUSION_BODY std::string KnownWords::list() const {
  std::set<std::string> others = words_;
  std::string out;
  for (const std::string& thing : things_) {
    out += thing + "\n";
    const std::vector<std::string> parts = words_of(thing);
    for (std::size_t i = 1; i < parts.size(); ++i) others.erase(parts[i]);
  }
  out += things_.empty() ? "" : "\n";
  for (const std::string& word : others) out += word + " ";
  out.back() = '\n';
  return out;
}

MOBILEDIFFUSION_BODY std::vector<std::string> KnownWords::split(const std::string& text, const std::string& between) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(between, begin), text.size());
    out.push_back(text.substr(begin, end - begin));
    begin = end + between.size();
  }
  return out;
}

MOBILEDIFFUSION_BODY void KnownWords::add(const std::string& first, const std::string& second) {
  pairs_[first].insert(second);
  words_.insert(second);
}

MOBILEDIFFUSION_BODY std::string KnownWords::guess(const std::string& word) const {
  if (word.size() < 4 || word.size() > 40) return {};
  std::size_t least = word.size() < 6 ? 2 : 3;
  std::string best;
  for (const std::string& other : words_)
    if (const std::size_t d = distance(word, other); d < least) {
      least = d;
      best = " (" + other + "?)";
    }
  return best;
}

MOBILEDIFFUSION_BODY std::size_t KnownWords::distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t corner = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = corner + (a[i] == b[j] ? 0 : 1);
      corner = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, corner + 1});
    }
  }
  return row.back();
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
