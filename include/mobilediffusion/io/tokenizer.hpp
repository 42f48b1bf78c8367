// SPDX-License-Identifier: Apache-2.0
// Prompts to token ids, through a sentencepiece model (training one: train/tokenizer.hpp) or the byte pairs of CLIP.
#pragma once

#include "../core/begin.hpp"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "clip_bpe.hpp"
#include "message.hpp"
#include "sentencepiece_model.hpp"
#include "utf8.hpp"

// Exported by the library, but in none of its public headers.
namespace sentencepiece::logging {
void SetMinLogLevel(int level);
}

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {
// sentencepiece logs to stderr by a level that is the process's: fatal only, from the first use on.
inline void silence_sentencepiece() { sentencepiece::logging::SetMinLogLevel(3); }

// A status without the source position and the command-line advice in it; begins with ": " unless nothing is left.
inline std::string reason(const sentencepiece::util::Status& status) {
  std::string_view text = status.error_message();
  if (const std::size_t at = text.rfind("] "); at != std::string_view::npos) text.remove_prefix(at + 2);
  text = text.substr(0, std::min(text.find(" Increase "), text.find(" --")));
  return text.empty() ? "" : join({": ", text});
}

inline void check_prompt_utf8(const std::string& what, std::string_view text) {
  if (const std::size_t at = find_invalid_utf8(text); at != std::string_view::npos)
    throw Error(detail::join({what, ": not UTF-8 at byte ", at}));
}
inline bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos; }
}  // namespace detail

// Encoding is const and may run on several threads at once.
class Tokenizer {
 public:
  static constexpr std::int32_t pad = 0, unknown = 1, begin = 2, end = 3;
  static constexpr std::size_t longest_prompt = 65536;  // bytes; beyond it even counting tokens is a waste

  // model: the bytes of a serialized sentencepiece model with the four ids above. Throws Error for anything else.
  explicit Tokenizer(std::string_view model) : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
    detail::silence_sentencepiece();
    if (model.empty()) throw Error("tokenizer model: empty");
    if (!detail::is_sound_sentencepiece_model(model)) throw Error("tokenizer model: not a sentencepiece model, or a damaged one");
    if (const auto status = processor_->LoadFromSerializedProto(model); !status.ok())
      throw Error(detail::join({"tokenizer model: not a sentencepiece model", detail::reason(status)}));
    const auto expect = [](const char* name, int id, std::int32_t wanted) {
      if (id != wanted) throw Error(detail::join({"tokenizer model: expected ", name, " id ", wanted, ", found ", id}));
    };
    expect("pad", processor_->pad_id(), pad);
    expect("unknown", processor_->unk_id(), unknown);
    expect("begin", processor_->bos_id(), begin);
    expect("end", processor_->eos_id(), end);
  }

  // filler: what fills a prompt up; Stable Diffusion 1.5 takes the end token, 2.1 the token 0.
  Tokenizer(ClipBpe bpe, std::int32_t filler) : bpe_(std::move(bpe)), pad_(filler), begin_(bpe_->begin()), end_(bpe_->end()) {}

  std::size_t vocabulary() const {  // ids are below it
    return bpe_ ? bpe_->vocabulary() : static_cast<std::size_t>(processor_->GetPieceSize());
  }

  // begin, the prompt's pieces, end, then pad: [context_length]. prompt: UTF-8.
  // Throws Error for a prompt that is empty, not UTF-8, or of more than context_length - 2 pieces.
  std::vector<std::int32_t> encode(std::string_view prompt, std::size_t context_length) const {
    if (detail::is_blank(prompt)) throw Error("prompt: empty (encode_unconditional is for generating without one)");
    if (prompt.size() > longest_prompt)
      throw Error(detail::join({"prompt: ", prompt.size(), " bytes, at most ", longest_prompt, " are accepted"}));
    detail::check_prompt_utf8("prompt", prompt);
    std::vector<int> pieces;
    if (bpe_) pieces = bpe_->encode(prompt);
    else if (const auto status = processor_->Encode(prompt, &pieces); !status.ok())
      throw Error(detail::join({"prompt: cannot be encoded", detail::reason(status)}));
    if (pieces.empty()) throw Error("prompt: empty: none of its characters is visible");
    return frame(pieces, context_length);
  }
  // What an absent prompt means to the models: begin, end, then pad: [context_length].
  std::vector<std::int32_t> encode_unconditional(std::size_t context_length) const { return frame({}, context_length); }

 private:
  std::vector<std::int32_t> frame(const std::vector<int>& pieces, std::size_t context_length) const {
    if (context_length < 2 || pieces.size() > context_length - 2)
      throw Error(
          detail::join({"prompt: ", pieces.size() + 2, " tokens with begin and end, the model takes at most ", context_length}));
    std::vector<std::int32_t> ids(context_length, pad_);
    ids[0] = begin_;
    std::copy(pieces.begin(), pieces.end(), ids.begin() + 1);
    ids[pieces.size() + 1] = end_;
    return ids;
  }

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;  // or
  std::optional<ClipBpe> bpe_;
  std::int32_t pad_ = pad, begin_ = begin, end_ = end;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
