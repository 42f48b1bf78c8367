// SPDX-License-Identifier: Apache-2.0
// The byte-pair tokenizer of CLIP (arXiv 2103.00020, 2.4): vocab.json and merges.txt as transformers stores them, or both
// in its tokenizer.json.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "message.hpp"
#include "unicode.hpp"
#include "utf8.hpp"

#ifdef MOBILEDIFFUSION_BODIES
#include <nlohmann/json.hpp>
#else
#include <nlohmann/json_fwd.hpp>
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Gives the ids of transformers' CLIPTokenizer (version 5; its "fast" one of before) for any text: Normalization Form C, white
// space to one space, lower case character by character; then words: runs of letters, single numbers, runs of other signs,
// English contractions apart; in each the pairs of the lowest rank are merged first, from the left. Time: n log n of the text.
class ClipBpe {
 public:
  static constexpr std::size_t longest_file = 16 << 20, most_tokens = 1'000'000;  // bytes; CLIP's: 1.7 MB, 49,408

  // vocab: the text of vocab.json; merges: that of merges.txt. Throws Error for anything else.
  ClipBpe(std::string_view vocab, std::string_view merges);
  // tokenizer: the text of tokenizer.json. Throws Error for anything else.
  explicit ClipBpe(std::string_view tokenizer);

  std::size_t vocabulary() const { return texts_.size(); }
  std::int32_t begin() const { return begin_; }
  std::int32_t end() const { return end_; }
  std::int32_t require(const std::string& token) const;

  // From now on this token of the vocabulary, wherever it stands in a text, is itself, as begin and end are. transformers takes
  // the padding so: "!" of Stable Diffusion 2. normalized: it is looked for after the text was normalized, so also in capitals.
  // Throws Error for one that the vocabulary lacks. Returns its id.
  std::int32_t add_special(const std::string& token, bool normalized = false);
  // The same from an entry as files have it: a token, or an object with its content and flags. where: for messages. keep: what is
  // a special token already stays as it is.
  std::int32_t add_special_entry(const nlohmann::json& token, std::string_view where, bool keep = false);

  // A token that the vocabulary lacks, as transformers adds it: wherever it stands in a text, also in capitals and inside words,
  // it is the ids from `id` on, `count` of them, which must not be the vocabulary's. whole_word: only where no letter, number or
  // underscore stands before or behind; then it may be a word of the vocabulary, whose place it takes. Throws Error for a text
  // that is a token already.
  void add_token(const std::string& token, std::int32_t id, std::size_t count = 1, bool whole_word = false);

  // Without begin and end; what the vocabulary lacks is its end token. text: UTF-8. Throws Error for what is not.
  std::vector<int> encode(std::string_view text) const;

  // The text of tokens[from] and what follows, as the tokenizer sees it: in lower case, words apart.
  std::string decode(const std::vector<int>& tokens, std::size_t from = 0) const;

  // The JSON of a tokenizer's file, discarded if it is none. What is nested deeper than these files are is dropped, so that it
  // costs no memory. Throws Error for a text of more than longest_file bytes.
  static nlohmann::json parse(std::string_view text, std::string_view file);

 private:
  static constexpr std::size_t most_specials = 100, most_added = 2000;
  struct Special {
    std::string text;
    std::int32_t id;
    bool normalized;
    std::size_t count = 1;  // ids, one after the other
    bool whole_word = false;
  };
  struct Merge {
    std::uint32_t rank;
    std::int32_t id;
  };

  static void check_size(std::string_view text, std::string_view file);
  void set_tokens(const nlohmann::json& json, std::string_view file);
  // text: two parts and a space between them.
  void add_merge(std::string_view text, std::string_view file);
  static std::uint64_t pair_of(std::int32_t first, std::int32_t second) {
    return static_cast<std::uint64_t>(first) << 32 | static_cast<std::uint32_t>(second);
  }

  // In the letters that stand for bytes.
  std::string spelt(std::string_view text) const;
  static std::string normal_form(std::string_view text);

  // Where a special token stands next, from `at` on.
  static std::size_t find_special(const Special& special, std::string_view text, std::size_t at);
  // Cuts out special tokens: the first that begins, of several the longest.
  template <class Take, class Rest>
  void split(std::string_view text, bool normalized, Take&& take, Rest&& rest) const {
    std::vector<std::pair<const Special*, std::size_t>> next;  // and where it is found next
    for (const Special& s : specials_)
      if (s.normalized == normalized) next.emplace_back(&s, find_special(s, text, 0));
    std::size_t at = 0;
    while (true) {
      const std::pair<const Special*, std::size_t>* first = nullptr;
      for (auto& n : next) {
        if (n.second < at) n.second = find_special(*n.first, text, at);
        if (n.second == text.npos) continue;
        if (first == nullptr || n.second < first->second ||
            (n.second == first->second && n.first->text.size() > first->first->text.size()))
          first = &n;
      }
      const std::size_t end = first == nullptr ? text.size() : first->second;
      if (end > at) rest(text.substr(at, end - at));
      if (first == nullptr) return;
      take(*first->first);
      at = end + first->first->text.size();
    }
  }

  // text: in normal form.
  void append_words(std::string_view text, std::vector<int>& out) const;
  // What lower case made the text of begin or end is neither, but still three words.
  static std::size_t literal_length(std::string_view text);
  static std::size_t contraction_length(std::string_view text);

  void append_word(std::string_view word, std::vector<int>& out) const;

  static constexpr const char *begin_text = "<|startoftext|>", *end_text = "<|endoftext|>";
  struct Letter {
    std::int32_t inside, at_end;  // of a word
  };
  std::map<std::string, std::int32_t> ids_;          // no table of hashes, which foreign texts can be made to collide in
  std::vector<std::string> texts_;                   // of each id
  std::unordered_map<std::uint64_t, Merge> merges_;  // of two ids
  std::uint32_t next_rank_ = 0;
  std::vector<Letter> letters_;                        // of each byte
  std::unordered_map<char32_t, unsigned char> bytes_;  // of the letters that stand for them
  std::vector<Special> specials_;
  std::size_t added_ = 0;  // of them
  std::int32_t begin_ = 0, end_ = 0;
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY ClipBpe::ClipBpe(std::string_view vocab, std::string_view merges) {
  set_tokens(parse(vocab, "vocab.json"), "vocab.json");
  check_size(merges, "merges.txt");
  std::size_t line = 0;
  while (!merges.empty()) {
    std::string_view text = merges.substr(0, merges.find('\n'));
    merges.remove_prefix(std::min(merges.size(), text.size() + 1));
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (!text.empty() && !(line++ == 0 && text.starts_with("#version"))) add_merge(text, "merges.txt");
  }
  if (merges_.empty()) throw Error("merges.txt: empty");
}

MOBILEDIFFUSION_BODY ClipBpe::ClipBpe(std::string_view tokenizer) {
  constexpr std::string_view file = "tokenizer.json";
  const auto json = parse(tokenizer, file);
  const auto at = json.find("model");  // the end also where json is no object
  if (at == json.end() || !at->is_object() || !at->contains("vocab") || !at->contains("merges") || !(*at)["merges"].is_array())
    throw Error("tokenizer.json: expected a model with vocab and merges");
  set_tokens((*at)["vocab"], file);
  for (const auto& merge : (*at)["merges"]) {  // ["a", "b"]; before 2024 "a b"
    const bool pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    add_merge(pair                ? merge[0].get<std::string>() + " " + merge[1].get<std::string>()
              : merge.is_string() ? merge.get<std::string>()
                                  : "",
              file);
  }
  if (merges_.empty()) throw Error("tokenizer.json: merges: empty");
  if (const auto added = json.find("added_tokens"); added != json.end()) {
    if (!added->is_array()) throw Error("tokenizer.json: added_tokens: expected a list");
    for (const auto& token : *added) add_special_entry(token, "tokenizer.json: added_tokens");
  }
}

MOBILEDIFFUSION_BODY std::int32_t ClipBpe::require(const std::string& token) const {
  const auto at = ids_.find(token);
  if (at == ids_.end()) throw Error(detail::join({"vocabulary: token ", detail::printable(token), ": missing"}));
  return at->second;
}

MOBILEDIFFUSION_BODY std::int32_t ClipBpe::add_special(const std::string& token, bool normalized) {
  const std::int32_t id = require(token);
  if (token.empty() || find_invalid_utf8(token) != std::string_view::npos)
    throw Error("special token: expected UTF-8, found none");
  const std::string text = normalized ? normal_form(token) : token;
  std::erase_if(specials_, [&](const Special& s) { return s.id == id; });
  if (specials_.size() == most_specials + added_) throw Error(detail::join({"special tokens: expected at most ", most_specials}));
  specials_.push_back({text, id, normalized});
  return id;
}

MOBILEDIFFUSION_BODY std::int32_t ClipBpe::add_special_entry(const nlohmann::json& token, std::string_view where, bool keep) {
  const auto content = token.is_object() ? token.find("content") : token.end();
  const nlohmann::json& text = content == token.end() ? token : *content;
  if (!text.is_string()) throw Error(detail::join({where, ": expected a token"}));
  const auto is = [&](const char* key) { return token.is_object() && token.contains(key) && token[key] == true; };
  if (is("single_word")) throw Error(detail::join({where, ": single_word: not supported"}));  // the other flags change no ids
  const std::int32_t id = require(text.get<std::string>());
  const bool known = std::any_of(specials_.begin(), specials_.end(), [&](const Special& s) { return s.id == id; });
  return keep && known ? id : add_special(text.get<std::string>(), is("normalized"));
}

MOBILEDIFFUSION_BODY void ClipBpe::add_token(const std::string& token, std::int32_t id, std::size_t count, bool whole_word) {
  const std::string text = find_invalid_utf8(token) == std::string_view::npos ? normal_form(token) : "";
  if (text.find_first_not_of(' ') == text.npos)
    throw Error(detail::join({"token ", detail::printable(token), ": expected a text in UTF-8"}));
  const bool known =
      std::any_of(specials_.begin(), specials_.end(), [&](const Special& s) { return s.normalized && s.text == text; });
  if (known || (!whole_word && ids_.contains(token)))
    throw Error(detail::join({"token ", detail::printable(token), ": is one of the vocabulary already, expected another name"}));
  for (const Special& s : specials_)
    if (!s.normalized && token.find(s.text) != token.npos)
      throw Error(detail::join({"token ", detail::printable(token), ": holds the special token ", detail::printable(s.text),
                                ", which would be found before it; expected another name"}));
  if (added_ == most_added) throw Error(detail::join({"added tokens: expected at most ", most_added}));
  ++added_;
  specials_.push_back({text, id, true, count, whole_word});
  const std::size_t place = static_cast<std::size_t>(id);
  if (texts_.size() < place + count) texts_.resize(place + count);
  texts_[place] = spelt(token) + "</w>";
  ids_.emplace(token, id);
}

MOBILEDIFFUSION_BODY std::vector<int> ClipBpe::encode(std::string_view text) const {
  if (letters_.empty()) throw Error("tokenizer: expected one that was not moved from");
  if (const std::size_t at = find_invalid_utf8(text); at != text.npos)
    throw Error(detail::join({"text: not UTF-8 at byte ", at}));
  std::vector<int> out;
  const auto take = [&](const Special& special) {
    for (std::size_t i = 0; i < special.count; ++i) out.push_back(special.id + static_cast<int>(i));
  };
  split(text, false, take, [&](std::string_view part) {
    split(normal_form(part), true, take, [&](std::string_view words) { append_words(words, out); });
  });
  return out;
}

MOBILEDIFFUSION_BODY std::string ClipBpe::decode(const std::vector<int>& tokens, std::size_t from) const {
  constexpr std::string_view word_end = "</w>";
  std::string out;
  for (std::size_t i = from; i < tokens.size(); ++i) {
    std::string_view text = texts_.at(static_cast<std::size_t>(tokens[i]));
    const bool ends = text.ends_with(word_end);
    if (ends) text.remove_suffix(word_end.size());
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t begin = at;
      const auto byte = bytes_.find(next_code_point(text, at));
      if (byte == bytes_.end()) out += text.substr(begin, at - begin);
      else out += static_cast<char>(byte->second);
    }
    if (ends) out += ' ';
  }
  if (out.ends_with(' ')) out.pop_back();
  const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; };  // a character
  return {std::find_if(out.begin(), out.end(), begins), out.end()};
}

MOBILEDIFFUSION_BODY nlohmann::json ClipBpe::parse(std::string_view text, std::string_view file) {
  check_size(text, file);
  const auto is_shallow = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) { return depth < 8; };
  return nlohmann::json::parse(text.begin(), text.end(), is_shallow, false);
}

MOBILEDIFFUSION_BODY void ClipBpe::check_size(std::string_view text, std::string_view file) {
  if (text.size() > longest_file)
    throw Error(detail::join({file, ": expected at most ", longest_file, " bytes, found ", text.size()}));
}

MOBILEDIFFUSION_BODY void ClipBpe::set_tokens(const nlohmann::json& json, std::string_view file) {
  if (!json.is_object() || json.empty()) throw Error(detail::join({file, ": expected an object of tokens and ids"}));
  if (json.size() > most_tokens)
    throw Error(detail::join({file, ": expected at most ", most_tokens, " tokens, found ", json.size()}));
  texts_.resize(json.size());
  for (const auto& [token, id] : json.items()) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= json.size())
      throw Error(detail::join({file, ": token ", detail::printable(token), ": expected an id below ", json.size()}));
    ids_.emplace(token, id.get<std::int32_t>());
    texts_[id.get<std::size_t>()] = token;
  }
  begin_ = add_special(begin_text);
  end_ = add_special(end_text);
  // Every byte stands in the vocabulary as a printable character.
  for (unsigned byte = 0, spare = 256; byte < 256; ++byte) {
    const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const char32_t letter = prints ? byte : spare++;
    bytes_.emplace(letter, static_cast<unsigned char>(byte));
    std::string text;
    append_utf8(text, letter);
    const auto id_or_end = [&](const std::string& token) { return ids_.contains(token) ? ids_.at(token) : end_; };
    letters_.push_back({id_or_end(text), id_or_end(text + "</w>")});
  }
}

MOBILEDIFFUSION_BODY void ClipBpe::add_merge(std::string_view text, std::string_view file) {
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == text.size())
    throw Error(detail::join({file, ": expected merges of two parts, found ", detail::printable(text)}));
  if (merges_.size() == most_tokens) throw Error(detail::join({file, ": expected at most ", most_tokens, " merges, found more"}));
  const std::string first(text.substr(0, space)), second(text.substr(space + 1));
  const auto id = [&](const std::string& token) {
    const auto at = ids_.find(token);
    if (at == ids_.end())
      throw Error(detail::join({file, ": merge ", detail::printable(text), ": the vocabulary lacks ", detail::printable(token)}));
    return at->second;
  };
  const std::int32_t left = id(first), right = id(second), both = id(first + second);
  merges_[pair_of(left, right)] = {next_rank_++, both};
}

MOBILEDIFFUSION_BODY std::string ClipBpe::spelt(std::string_view text) const {
  std::string out;
  for (const char c : text)
    for (const auto& [letter, byte] : bytes_)
      if (byte == static_cast<unsigned char>(c)) append_utf8(out, letter);
  return out;
}

MOBILEDIFFUSION_BODY std::string ClipBpe::normal_form(std::string_view text) {
  std::string out;
  bool after_space = false;
  for (const char32_t c : normalization_form_c(text)) {
    const bool space = class_of(c) == CharacterClass::space;
    if (!space) append_lower(out, c);
    else if (!after_space) out += ' ';
    after_space = space;
  }
  return out;
}

MOBILEDIFFUSION_BODY std::size_t ClipBpe::find_special(const Special& special, std::string_view text, std::size_t at) {
  const auto is_of_word = [&](std::size_t begin) {
    const CharacterClass kind = class_of(next_code_point(text, begin));
    return kind == CharacterClass::letter || kind == CharacterClass::number;
  };
  const auto is_continuation = [&](std::size_t i) { return (static_cast<unsigned char>(text[i]) & 0xC0u) == 0x80u; };
  for (at = text.find(special.text, at); at != text.npos && special.whole_word; at = text.find(special.text, at + 1)) {
    const std::size_t end = at + special.text.size();
    std::size_t before = at;
    while (before > 0 && is_continuation(--before)) continue;
    const bool glued_before = at > 0 && (text[before] == '_' || is_of_word(before)),
               glued_behind = end < text.size() && (text[end] == '_' || is_of_word(end));
    if (!glued_before && !glued_behind) break;
  }
  return at;
}

MOBILEDIFFUSION_BODY void ClipBpe::append_words(std::string_view text, std::vector<int>& out) const {
  const auto append = [&](std::size_t from, std::size_t to) { append_word(text.substr(from, to - from), out); };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    if (const std::size_t length = literal_length(text.substr(at)); length > 0) {  // "<|", letters, "|>"
      at += length;
      append(begin, begin + 2);
      append(begin + 2, at - 2);
      append(at - 2, at);
      continue;
    }
    at += contraction_length(text.substr(at));
    if (at == begin) {
      const CharacterClass kind = class_of(next_code_point(text, at));
      if (kind == CharacterClass::space) continue;
      if (kind != CharacterClass::number)
        for (std::size_t end = at; end < text.size() && class_of(next_code_point(text, end)) == kind;) at = end;
    }
    append(begin, at);
  }
}

MOBILEDIFFUSION_BODY std::size_t ClipBpe::literal_length(std::string_view text) {
  for (const std::string_view token : {begin_text, end_text})
    if (text.starts_with(token)) return token.size();
  return 0;
}

MOBILEDIFFUSION_BODY std::size_t ClipBpe::contraction_length(std::string_view text) {
  for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (text.starts_with(ending)) return ending.size();
  return 0;
}

MOBILEDIFFUSION_BODY void ClipBpe::append_word(std::string_view word, std::vector<int>& out) const {
  struct Symbol {
    std::int32_t id;
    std::size_t before, after;  // neighbours; none: npos
    bool gone = false;
  };
  struct Candidate {
    std::uint32_t rank;
    std::size_t at;
    std::int32_t id;
    bool operator<(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }  // the last comes first
  };
  constexpr std::size_t none = std::string_view::npos;
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (std::size_t i = 0; i < word.size(); ++i) {
    const auto& letter = letters_[static_cast<unsigned char>(word[i])];
    const bool last = i + 1 == word.size();
    symbols.push_back({last ? letter.at_end : letter.inside, i == 0 ? none : i - 1, last ? none : i + 1});
  }
  std::priority_queue<Candidate> queue;
  const auto merge_at = [&](std::size_t at) {
    if (at == none || symbols[at].after == none) return merges_.end();
    return merges_.find(pair_of(symbols[at].id, symbols[symbols[at].after].id));
  };
  const auto consider = [&](std::size_t at) {
    if (const auto m = merge_at(at); m != merges_.end()) queue.push({m->second.rank, at, m->second.id});
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) consider(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.at];
    if (left.gone) continue;
    if (const auto m = merge_at(best.at); m == merges_.end() || m->second.id != best.id) continue;  // its parts have changed
    Symbol& right = symbols[left.after];
    right.gone = true;
    left.id = best.id;
    left.after = right.after;
    if (left.after != none) symbols[left.after].before = best.at;
    consider(left.before);
    consider(best.at);
  }
  for (const Symbol& s : symbols)
    if (!s.gone) out.push_back(s.id);
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
