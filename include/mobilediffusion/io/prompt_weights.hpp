// SPDX-License-Identifier: Apache-2.0
// Weights of a prompt's words, as AUTOMATIC1111's web interface writes them and stable-diffusion.cpp reads them.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "message.hpp"
#include "numbers.hpp"
#include "unicode.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// A stretch of a prompt, which is tokenized apart from its neighbours.
struct PromptPiece {
  std::string text;
  float weight = 1.0f;     // what the text encoder's states of its tokens are multiplied by
  bool new_chunk = false;  // BREAK stood before it: it begins another chunk of tokens
};

namespace detail {

// Brackets of one kind: stretches of pieces and the factors that their weights get. Those of the other kind may cross them.
class PromptBrackets {
 public:
  bool is_open() const { return !open_.empty(); }
  void open(std::size_t piece);
  void close(std::size_t piece, double factor);
  // In one pass: a stretch lies in the last one that is still open where it begins.
  void multiply(std::vector<double>& weights) const;

 private:
  struct Stretch {
    std::size_t begin, end;
    double factor;
  };
  std::vector<Stretch> stretches_;
  std::vector<std::size_t> open_;
};

}  // namespace detail

// The grammar: (x) is 1.1 times as strong, ((x)) 1.21 times, [x] 1/1.1 times, (x:1.3) 1.3 times; a backslash before a bracket or
// a backslash makes it plain text. What is not closed counts to the end; what was not opened is plain text. BREAK, as a word of
// its own, begins a new chunk of tokens, here also inside brackets. That is all: in `a AND b` the AND is a word like others, and
// `[a:b:0.5]` is the text a:b:0.5, a little weaker; both are further grammars of that program.
//
// prompt: well-formed UTF-8. Neighbours of one weight are one piece; there is at least one. Time: linear. Throws Error for a
// weight that is no number, and for one beyond 1000 either way.
std::vector<PromptPiece> parse_prompt_weights(std::string_view prompt);

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY void PromptBrackets::open(std::size_t piece) {
  open_.push_back(stretches_.size());
  stretches_.push_back({piece, piece, 1.0});
}

MOBILEDIFFUSION_BODY void PromptBrackets::close(std::size_t piece, double factor) {
  stretches_[open_.back()].end = piece;
  stretches_[open_.back()].factor = factor;
  open_.pop_back();
}

MOBILEDIFFUSION_BODY void PromptBrackets::multiply(std::vector<double>& weights) const {
  std::vector<std::pair<std::size_t, double>> around;  // ends, and products of factors
  auto next = stretches_.begin();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    while (!around.empty() && around.back().first <= i) around.pop_back();
    for (; next != stretches_.end() && next->begin <= i; ++next)
      if (next->end > i) around.emplace_back(next->end, (around.empty() ? 1.0 : around.back().second) * next->factor);
    if (!around.empty()) weights[i] *= around.back().second;
  }
}

MOBILEDIFFUSION_BODY bool is_space_at(std::string_view text, std::size_t& at) {  // goes behind one
  std::size_t behind = at;
  if (at >= text.size() || class_of(next_code_point(text, behind)) != CharacterClass::space) return false;
  at = behind;
  return true;
}

MOBILEDIFFUSION_BODY bool is_word_at(std::string_view text, std::size_t at) {
  if (at >= text.size()) return false;
  if (text[at] == '_') return true;
  const CharacterClass c = class_of(next_code_point(text, at));
  return c == CharacterClass::letter || c == CharacterClass::number;
}

MOBILEDIFFUSION_BODY std::size_t previous_code_point(std::string_view text, std::size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u);
  return at;
}

// ":1.3)" at the front of text, with spaces around the number: its length and the number as a text; 0: something else is there.
MOBILEDIFFUSION_BODY std::size_t prompt_weight_at(std::string_view text, std::string_view& number) {
  std::size_t at = 1;
  while (is_space_at(text, at)) continue;
  const std::size_t begin = at;
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
  const std::size_t digits = at;
  at = std::min(text.find_first_not_of(".0123456789", at), text.size());
  number = text.substr(begin, at - begin);
  if (at == digits) return 0;
  while (is_space_at(text, at)) continue;
  return at < text.size() && text[at] == ')' ? at + 1 : 0;
}

}  // namespace detail

MOBILEDIFFUSION_BODY std::vector<PromptPiece> parse_prompt_weights(std::string_view prompt) {
  constexpr double stronger = 1.1, weaker = 1.0 / 1.1, most = 1000.0;
  std::vector<PromptPiece> parsed;
  detail::PromptBrackets round, square;
  const auto add = [&](std::string_view text, bool new_chunk = false) { parsed.push_back({std::string(text), 1.0f, new_chunk}); };
  const auto add_words = [&](std::string_view text) {
    constexpr std::string_view word = "BREAK";
    std::size_t begin = 0;
    bool new_chunk = false;
    for (std::size_t at = text.find(word); at != text.npos; at = text.find(word, at)) {
      std::size_t behind = at + word.size();
      const bool apart =
          (at == 0 || !detail::is_word_at(text, detail::previous_code_point(text, at))) && !detail::is_word_at(text, behind);
      if (apart) {
        std::size_t end = at;
        for (std::size_t space; end > begin; end = space) {
          space = detail::previous_code_point(text, end);
          if (std::size_t ignored = space; !detail::is_space_at(text, ignored)) break;
        }
        add(text.substr(begin, end - begin), new_chunk);
        while (detail::is_space_at(text, behind)) continue;
        begin = behind;
        new_chunk = true;
      }
      at = behind;
    }
    add(text.substr(begin), new_chunk);
  };
  for (std::size_t at = 0; at < prompt.size();) {
    const std::string_view rest = prompt.substr(at);
    std::size_t taken = 1;
    std::string_view number;
    switch (rest[0]) {
      case '\\':
        if (rest.size() > 1 && std::string_view("()[]\\").find(rest[1]) != std::string_view::npos) taken = 2;
        add(rest.substr(1, taken - 1));
        break;
      case '(':
        round.open(parsed.size());
        break;
      case '[':
        square.open(parsed.size());
        break;
      case ')':
        if (round.is_open()) round.close(parsed.size(), stronger);
        else add(rest.substr(0, 1));
        break;
      case ']':
        if (square.is_open()) square.close(parsed.size(), weaker);
        else add(rest.substr(0, 1));
        break;
      case ':':
        if (const std::size_t length = detail::prompt_weight_at(rest, number); length > 0) taken = length;
        if (taken > 1 && round.is_open()) {
          double weight = 0;
          if (!detail::parse_number(number.substr(number[0] == '+' ? 1 : 0), weight) || !std::isfinite(weight))
            throw Error(detail::join({"prompt: expected a number for a weight, found ", detail::printable(std::string(number))}));
          round.close(parsed.size(), weight);
        } else {
          add(rest.substr(0, taken));
        }
        break;
      default:
        taken = std::min(rest.find_first_of("\\()[]:"), rest.size());
        add_words(rest.substr(0, taken));
    }
    at += taken;
  }
  while (round.is_open()) round.close(parsed.size(), stronger);
  while (square.is_open()) square.close(parsed.size(), weaker);

  std::vector<double> weights(parsed.size(), 1.0);
  round.multiply(weights);
  square.multiply(weights);
  std::vector<PromptPiece> pieces;
  for (std::size_t i = 0; i < parsed.size(); ++i) {
    PromptPiece& piece = parsed[i];
    if (!(std::abs(weights[i]) <= most) && !piece.text.empty())
      throw Error(detail::join(
          {"prompt: weight of ", detail::printable(piece.text), ": expected -1000 to 1000, found ", std::to_string(weights[i])}));
    piece.weight = static_cast<float>(weights[i]);
    if (!pieces.empty() && !piece.new_chunk && pieces.back().weight == piece.weight) pieces.back().text += piece.text;
    else pieces.push_back(std::move(piece));
  }
  std::erase_if(pieces, [](const PromptPiece& piece) { return piece.text.empty() && !piece.new_chunk; });
  if (pieces.empty()) pieces.emplace_back();
  return pieces;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
