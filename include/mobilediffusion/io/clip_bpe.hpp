// SPDX-License-Identifier: Apache-2.0
// The byte-pair tokenizer of CLIP (arXiv 2103.00020, 2.4): vocab.json and merges.txt as transformers stores them, or both
// in its tokenizer.json.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "message.hpp"
#include "utf8.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Words are lower-cased and cut as CLIP does: runs of letters, single digits, runs of other signs, English contractions apart.
// Of non-ASCII text every character counts as a letter, and only Latin-1 is lower-cased.
class ClipBpe {
 public:
  // vocab: the text of vocab.json; merges: that of merges.txt. Throws Error for anything else.
  ClipBpe(std::string_view vocab, std::string_view merges) {
    set_tokens(nlohmann::json::parse(vocab.begin(), vocab.end(), nullptr, false), "vocab.json");
    std::size_t line = 0;
    while (!merges.empty()) {
      const std::string_view text = merges.substr(0, merges.find('\n'));
      merges.remove_prefix(std::min(merges.size(), text.size() + 1));
      if (!text.empty() && !(line++ == 0 && text.starts_with("#version"))) add_merge(text, "merges.txt");
    }
    if (ranks_.empty()) throw Error("merges.txt: empty");
  }
  // tokenizer: the text of tokenizer.json. Throws Error for anything else.
  explicit ClipBpe(std::string_view tokenizer) {
    const auto json = nlohmann::json::parse(tokenizer.begin(), tokenizer.end(), nullptr, false);
    const auto at = json.find("model");  // the end also where json is no object
    if (at == json.end() || !at->is_object() || !at->contains("vocab") || !at->contains("merges") || !(*at)["merges"].is_array())
      throw Error("tokenizer.json: expected a model with vocab and merges");
    const nlohmann::json& model = *at;  // not copied: a copy recurses as deep as the file nests
    set_tokens(model["vocab"], "tokenizer.json");
    for (const auto& merge : model["merges"]) {  // ["a", "b"]; before 2024 "a b"
      const bool pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
      add_merge(pair                ? merge[0].get<std::string>() + " " + merge[1].get<std::string>()
                : merge.is_string() ? merge.get<std::string>()
                                    : "",
                "tokenizer.json");
    }
    if (ranks_.empty()) throw Error("tokenizer.json: merges: empty");
  }

  std::size_t vocabulary() const { return ids_.size(); }
  std::int32_t begin() const { return begin_; }
  std::int32_t end() const { return end_; }
  std::int32_t require(const std::string& token) const {
    const auto at = ids_.find(token);
    if (at == ids_.end()) throw Error(detail::join({"vocabulary: token ", detail::printable(token), ": missing"}));
    return at->second;
  }

  // From now on this token of the vocabulary, wherever it stands in a text, is itself, as begin and end are. transformers takes
  // the padding so: "!" of Stable Diffusion 2. Throws Error for one that the vocabulary lacks. Returns its id.
  std::int32_t add_special(const std::string& token) {
    const std::int32_t id = require(token);
    if (token.empty()) throw Error("special token: empty");
    specials_.emplace_back(token, id);
    return id;
  }

  // Without begin and end. text: UTF-8. Throws Error for a piece that the vocabulary lacks.
  std::vector<int> encode(std::string_view text) const {
    std::vector<int> out;
    while (true) {
      std::size_t first = text.npos;
      const std::pair<std::string, std::int32_t>* special = nullptr;
      for (const auto& s : specials_)
        if (const std::size_t at = text.find(s.first); at < first) {
          first = at;
          special = &s;
        }
      append_words(text.substr(0, first), out);
      if (special == nullptr) return out;
      out.push_back(special->second);
      text.remove_prefix(first + special->first.size());
    }
  }

  std::string decode(const std::vector<int>&, std::size_t) const { return {}; }

 private:
  void set_tokens(const nlohmann::json& json, std::string_view file) {
    if (!json.is_object() || json.empty()) throw Error(detail::join({file, ": expected an object of tokens and ids"}));
    for (const auto& [token, id] : json.items()) {
      if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= json.size())
        throw Error(detail::join({file, ": token ", detail::printable(token), ": expected an id below ", json.size()}));
      ids_.emplace(token, id.get<std::int32_t>());
    }
    begin_ = add_special("<|startoftext|>");
    end_ = add_special("<|endoftext|>");
  }
  // text: two parts and a space between them.
  void add_merge(std::string_view text, std::string_view file) {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == text.size())
      throw Error(detail::join({file, ": expected merges of two parts, found ", detail::printable(text)}));
    ranks_.emplace(std::pair{std::string(text.substr(0, space)), std::string(text.substr(space + 1))}, ranks_.size());
  }
  static std::array<std::string, 256> byte_letters() {
    std::array<std::string, 256> letters;
    for (unsigned byte = 0, spare = 256; byte < 256; ++byte) {
      const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      letters[byte] = encode_utf8(prints ? byte : spare++);
    }
    return letters;
  }

  static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
  static bool is_letter(char c) { return (lower(c) >= 'a' && lower(c) <= 'z') || static_cast<unsigned char>(c) >= 0x80; }

  static std::size_t word_length(std::string_view text) {
    if (is_space(text[0]) || is_digit(text[0])) return 1;
    if (text[0] == '\'')
      for (const std::string_view ending : {"re", "ve", "ll", "s", "t", "m", "d"}) {
        std::size_t n = 0;
        while (n < ending.size() && n + 1 < text.size() && lower(text[n + 1]) == ending[n]) ++n;
        if (n == ending.size()) return n + 1;
      }
    const bool letters = is_letter(text[0]);
    std::size_t n = 1;
    while (n < text.size() && !is_space(text[n]) && !is_digit(text[n]) && is_letter(text[n]) == letters) ++n;
    return n;
  }

  void append_words(std::string_view text, std::vector<int>& out) const {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = word_length(text.substr(at));
      if (!is_space(text[at])) append_word(text.substr(at, length), out);
      at += length;
    }
  }
  // Merges the pair of the lowest rank until none is left.
  void append_word(std::string_view word, std::vector<int>& out) const {
    std::vector<std::string> parts;
    for (std::size_t i = 0; i < word.size(); ++i) {
      auto byte = static_cast<unsigned char>(lower(word[i]));
      const bool latin = i > 0 && word[i - 1] == '\xC3' && byte >= 0x80 && byte <= 0x9E && byte != 0x97;  // U+00C0 to U+00DE
      if (latin) byte = static_cast<unsigned char>(byte + 0x20);
      parts.push_back(letters_[byte]);
    }
    parts.back() += "</w>";
    while (parts.size() > 1) {
      std::size_t best = parts.size(), lowest = std::numeric_limits<std::size_t>::max();
      for (std::size_t i = 0; i + 1 < parts.size(); ++i)
        if (const auto at = ranks_.find({parts[i], parts[i + 1]}); at != ranks_.end() && at->second < lowest) {
          lowest = at->second;
          best = i;
        }
      if (best == parts.size()) break;
      // Every place where this pair stands, from the left.
      const std::string first = parts[best], second = parts[best + 1];
      std::vector<std::string> merged;
      for (std::size_t i = 0; i < parts.size(); ++i) {
        if (i + 1 < parts.size() && parts[i] == first && parts[i + 1] == second) {
          merged.push_back(first + second);
          ++i;
        } else {
          merged.push_back(parts[i]);
        }
      }
      parts = std::move(merged);
    }
    for (const std::string& part : parts) out.push_back(require(part));
  }

  static std::string encode_utf8(unsigned code) {  // below 0x800
    if (code < 0x80) return {static_cast<char>(code)};
    return {static_cast<char>(0xC0u | (code >> 6)), static_cast<char>(0x80u | (code & 63u))};
  }

  std::unordered_map<std::string, std::int32_t> ids_;
  std::map<std::pair<std::string, std::string>, std::size_t> ranks_;
  std::array<std::string, 256> letters_ = byte_letters();  // every byte as the printable character that stands for it
  std::vector<std::pair<std::string, std::int32_t>> specials_;
  std::int32_t begin_ = 0, end_ = 0;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
