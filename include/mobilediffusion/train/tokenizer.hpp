// SPDX-License-Identifier: Apache-2.0
// Learns the tokenizer of a set of captions.
#pragma once

#include "../core/begin.hpp"

#include <sentencepiece_trainer.h>

#include <cstddef>
#include <span>
#include <string>
#include <unordered_map>

#include "../core/error.hpp"
#include "../io/tokenizer.hpp"

// Exported by the library, but in none of its public headers.
namespace sentencepiece::logging {
int GetMinLogLevel();
void SetMinLogLevel(int level);
}  // namespace sentencepiece::logging

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {
class CaptionIterator : public sentencepiece::SentenceIterator {
 public:
  explicit CaptionIterator(std::span<const std::string> captions) : captions_(captions) {}
  bool done() const override { return next_ == captions_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return captions_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::span<const std::string> captions_;
  std::size_t next_ = 0;
};

// Training reports to stderr by a level that is the process's: nothing below fatal for as long as this lives, then as before.
class QuietSentencepiece {
 public:
  QuietSentencepiece() { sentencepiece::logging::SetMinLogLevel(3); }
  ~QuietSentencepiece() { sentencepiece::logging::SetMinLogLevel(before_); }
  QuietSentencepiece(const QuietSentencepiece&) = delete;
  QuietSentencepiece& operator=(const QuietSentencepiece&) = delete;

 private:
  int before_ = sentencepiece::logging::GetMinLogLevel();
};
}  // namespace detail

// The serialized model (for Tokenizer) of byte-pair encoding over these captions, with exactly vocabulary_size pieces:
// four special ids, every character that occurs, then merges. Case is folded and compatibility forms are unified.
// Equal captions in equal order, equal bytes. While it runs, sentencepiece's log level is changed for the whole process. Source:
// Sennrich et al., arXiv 1508.07909; Kudo and Richardson, 1808.06226. Throws Error for captions that are empty, not UTF-8 or over
// 65,536 bytes, and where they do not yield that many pieces.
inline std::string train_tokenizer(std::span<const std::string> captions, std::size_t vocabulary_size) {
  constexpr std::size_t longest = Tokenizer::longest_prompt;
  if (captions.empty()) throw Error("tokenizer: no captions to learn from");
  if (vocabulary_size < 8 || vocabulary_size > 1'000'000)
    throw Error(detail::join({"tokenizer: expected a vocabulary of 8 to 1000000 pieces, found ", vocabulary_size}));
  for (std::size_t i = 0; i < captions.size(); ++i) {
    const std::string name = detail::join({"tokenizer: caption ", i});
    detail::check_prompt_utf8(name, captions[i]);
    if (detail::is_blank(captions[i])) throw Error(detail::join({name, ": empty"}));
    if (captions[i].size() > longest)
      throw Error(detail::join({name, ": ", captions[i].size(), " bytes, at most ", longest, " are accepted"}));
  }
  const detail::QuietSentencepiece quiet;
  const std::unordered_map<std::string, std::string> options{
      {"model_type", "bpe"},  // whole words of a small world stay whole; results do not depend on threads
      {"vocab_size", std::to_string(vocabulary_size)},
      {"character_coverage", "1.0"},
      {"normalization_rule_name", "nmt_nfkc_cf"},
      {"max_sentence_length", std::to_string(longest + 1)},
      {"num_threads", "1"},
      {"pad_id", "0"},
      {"unk_id", "1"},
      {"bos_id", "2"},
      {"eos_id", "3"},
      {"minloglevel", "3"},
  };
  detail::CaptionIterator iterator(captions);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &iterator, &model);
  if (!status.ok())
    throw Error(detail::join({"tokenizer: a vocabulary of ", vocabulary_size, " pieces cannot be learnt from ", captions.size(),
                              " captions", detail::reason(status)}));
  return model;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
