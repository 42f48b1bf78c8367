// SPDX-License-Identifier: Apache-2.0
// Prompts to token ids, through a sentencepiece model (training one: train/tokenizer.hpp) or the byte pairs of CLIP.
#pragma once

#include "../core/begin.hpp"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "clip_bpe.hpp"
#include "message.hpp"
#include "prompt_chunks.hpp"
#include "prompt_weights.hpp"
#include "sentencepiece_model.hpp"
#include "utf8.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {
// A status without the source position and the command-line advice in it; begins with ": " unless nothing is left.
std::string reason(const sentencepiece::util::Status& status);

void check_prompt_utf8(const std::string& what, std::string_view text);
inline bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos; }
}  // namespace detail

// How a prompt becomes tokens.
struct PromptReading {
  std::size_t most_chunks = 1;  // of context_length ids; a prompt takes as many as it needs (prompt_chunks)
  bool weights = false;         // as parse_prompt_weights reads them; else brackets are plain text
};

// A prompt as a model reads it.
struct EncodedPrompt {
  std::vector<std::int32_t> ids;     // [chunks][context_length]; of each: begin, tokens, end, then pad
  std::vector<float> weights;        // of each id; empty: all 1
  std::size_t tokens = 0;            // of the whole prompt, without begin and end
  std::string cut;                   // the end of the prompt, as the tokenizer spells it, that found no room; empty: all fits
  std::vector<std::string> unknown;  // what stands in the prompt and the vocabulary has no token for, in order
};

// A text that is replaced by so many ids of its own, wherever it stands in a prompt. TEXT_1, TEXT_2 and so on are the single
// ones.
struct AddedToken {
  std::string text;
  std::size_t ids = 1;
  bool whole_word = false;  // ClipBpe::add_token
};

// Encoding is const and may run on several threads at once. Copies are cheap: they share what was loaded. To move is to copy, so
// that a tokenizer can always be used.
class Tokenizer {
 public:
  static constexpr std::int32_t pad = 0, unknown = 1, begin = 2, end = 3;
  static constexpr std::size_t longest_prompt = 65536;  // bytes; beyond it even counting tokens is a waste

  // model: the bytes of a sentencepiece model as train_tokenizer makes it, of at most most_pieces pieces. Throws Error for
  // anything else.
  explicit Tokenizer(std::string_view model, std::size_t most_pieces = detail::SentencepieceModel::most_pieces);

  // filler: what fills a prompt up; Stable Diffusion 1.5 takes the end token, 2.1 the token 0.
  Tokenizer(ClipBpe bpe, std::int32_t filler)
      : bpe_(std::make_shared<ClipBpe>(std::move(bpe))), pad_(filler), begin_(bpe_->begin()), end_(bpe_->end()) {}

  Tokenizer(const Tokenizer&) = default;
  Tokenizer& operator=(const Tokenizer&) = default;
  ~Tokenizer() = default;

  // The same with these besides, whose ids are consecutive, from first_id on. Throws Error for one that is a token already, and
  // where there are no byte pairs of CLIP.
  Tokenizer with_tokens(std::span<const AddedToken> added, std::size_t first_id) const;

  std::size_t vocabulary() const;

  // prompt: UTF-8. What does not fit between begin and end of the last chunk is cut off, as transformers and diffusers do; an
  // empty prompt is what an absent one means to the models. Throws Error for a prompt that is not UTF-8 or of more than
  // longest_prompt bytes, for a context_length below 2, and as parse_prompt_weights does.
  EncodedPrompt encode_prompt(std::string_view prompt, std::size_t context_length, const PromptReading& reading = {}) const;
  // Its ids alone: [context_length].
  std::vector<std::int32_t> encode(std::string_view prompt, std::size_t context_length) const {
    return encode_prompt(prompt, context_length).ids;
  }
  // What an absent prompt means to the models: begin, end, then pad: [context_length].
  std::vector<std::int32_t> encode_unconditional(std::size_t context_length) const { return encode("", context_length); }

 private:
  template <class T>
  static void append(std::vector<T>& all, std::vector<T>&& some) {
    all.insert(all.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
  }
  int comma() const;
  // Ids, or what each of them stands for.
  template <class T>
  std::vector<T> pieces_of(std::string_view prompt) const {
    std::vector<T> pieces;
    if (const auto status = processor_->Encode(prompt, &pieces); !status.ok())
      throw Error(detail::join({"prompt: cannot be encoded", detail::reason(status)}));
    return pieces;
  }
  // sentencepiece writes a space as U+2581, also before the first word.
  static std::string with_spaces(std::string text);

  std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor_;  // or
  std::shared_ptr<const ClipBpe> bpe_;
  std::int32_t pad_ = pad, begin_ = begin, end_ = end;
};

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY std::string reason(const sentencepiece::util::Status& status) {
  std::string_view text = status.error_message();
  if (const std::size_t at = text.rfind("] "); at != std::string_view::npos) text.remove_prefix(at + 2);
  text = text.substr(0, std::min(text.find(" Increase "), text.find(" --")));
  return text.empty() ? "" : join({": ", text});
}

MOBILEDIFFUSION_BODY void check_prompt_utf8(const std::string& what, std::string_view text) {
  if (const std::size_t at = find_invalid_utf8(text); at != std::string_view::npos)
    throw Error(detail::join({what, ": not UTF-8 at byte ", at}));
}

}  // namespace detail

MOBILEDIFFUSION_BODY Tokenizer::Tokenizer(std::string_view model, std::size_t most_pieces) {
  try {
    if (model.empty()) throw Error("empty");
    detail::SentencepieceModel::check(model,
                                      most_pieces);  // so that sentencepiece neither complains on the terminal nor goes astray
    auto processor = std::make_shared<sentencepiece::SentencePieceProcessor>();
    if (const auto status = processor->LoadFromSerializedProto(model); !status.ok())
      throw Error(detail::join({"not a sentencepiece model", detail::reason(status)}));
    const auto expect = [](const char* name, int id, std::int32_t wanted) {
      if (id != wanted) throw Error(detail::join({"expected ", name, " id ", wanted, ", found ", id}));
    };
    expect("pad", processor->pad_id(), pad);
    expect("unknown", processor->unk_id(), unknown);
    expect("begin", processor->bos_id(), begin);
    expect("end", processor->eos_id(), end);
    processor_ = std::move(processor);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {  // also those of sentencepiece's own libraries
    throw Error(std::string("tokenizer model: ") + e.what());
  }
}

MOBILEDIFFUSION_BODY Tokenizer Tokenizer::with_tokens(std::span<const AddedToken> added, std::size_t first_id) const {
  if (added.empty()) return *this;
  if (!bpe_) throw Error("tokenizer: expected CLIP's to add tokens to, found a sentencepiece model");
  ClipBpe bpe = *bpe_;
  for (const AddedToken& a : added) {
    const auto id = [&](std::size_t i) { return static_cast<std::int32_t>(first_id + i); };
    bpe.add_token(a.text, id(0), a.ids, a.whole_word);
    for (std::size_t i = 1; i < a.ids; ++i) bpe.add_token(a.text + "_" + std::to_string(i), id(i), 1, a.whole_word);
    first_id += a.ids;
  }
  return {std::move(bpe), pad_};
}

MOBILEDIFFUSION_BODY std::size_t Tokenizer::vocabulary() const {  // ids are below it
  return bpe_ ? bpe_->vocabulary() : static_cast<std::size_t>(processor_->GetPieceSize());
}

MOBILEDIFFUSION_BODY EncodedPrompt Tokenizer::encode_prompt(std::string_view prompt, std::size_t context_length,
                                                            const PromptReading& reading) const {
  if (context_length < 2) throw Error(detail::join({"context_length: expected at least 2, found ", context_length}));
  if (prompt.size() > longest_prompt)
    throw Error(detail::join({"prompt: ", prompt.size(), " bytes, at most ", longest_prompt, " are accepted"}));
  detail::check_prompt_utf8("prompt", prompt);
  EncodedPrompt out;
  std::vector<PromptPiece> pieces;
  if (reading.weights) pieces = parse_prompt_weights(prompt);
  else pieces.push_back({std::string(prompt)});
  std::vector<int> tokens;
  std::vector<float> weights;
  std::vector<std::size_t> breaks;
  for (const PromptPiece& piece : pieces) {
    if (piece.new_chunk) breaks.push_back(tokens.size());
    append(tokens, bpe_ ? bpe_->encode(piece.text) : pieces_of<int>(piece.text));
    weights.resize(tokens.size(), piece.weight);
  }
  const auto chunks = prompt_chunks(tokens, breaks, reading.most_chunks > 1 ? comma() : -1, context_length - 2,
                                    std::max<std::size_t>(reading.most_chunks, 1));
  const std::size_t kept = chunks.back().second;
  const bool weighted = std::any_of(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(kept),
                                    [](float weight) { return weight != 1.0f; });
  out.tokens = tokens.size();
  out.ids.assign(chunks.size() * context_length, pad_);
  if (weighted) out.weights.assign(out.ids.size(), 1.0f);
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const auto [first, last] = chunks[i];
    const std::size_t at = i * context_length;
    out.ids[at] = begin_;
    std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(first), last - first,
                out.ids.begin() + static_cast<std::ptrdiff_t>(at + 1));
    out.ids[at + 1 + last - first] = end_;
    if (weighted)
      std::copy_n(weights.begin() + static_cast<std::ptrdiff_t>(first), last - first,
                  out.weights.begin() + static_cast<std::ptrdiff_t>(at + 1));
  }
  if (bpe_) {
    out.cut = bpe_->decode(tokens, kept);
  } else {
    std::vector<std::string> texts;
    for (const PromptPiece& piece : pieces) append(texts, pieces_of<std::string>(piece.text));
    for (std::size_t i = kept; i < texts.size(); ++i) out.cut += texts[i];
    out.cut = with_spaces(out.cut);
    for (std::size_t i = 0; i < texts.size(); ++i)
      if (tokens[i] == unknown) out.unknown.push_back(with_spaces(texts[i]));
  }
  return out;
}

MOBILEDIFFUSION_BODY int Tokenizer::comma() const {
  const std::vector<int> tokens = bpe_ ? bpe_->encode(",") : std::vector<int>();
  return tokens.size() == 1 ? tokens[0] : -1;
}

MOBILEDIFFUSION_BODY std::string Tokenizer::with_spaces(std::string text) {
  constexpr std::string_view mark = "\xE2\x96\x81";
  for (std::size_t at = 0; (at = text.find(mark, at)) != std::string::npos; ++at) text.replace(at, mark.size(), 1, ' ');
  return text.substr(std::min(text.find_first_not_of(' '), text.size()));
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
