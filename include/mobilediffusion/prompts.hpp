// SPDX-License-Identifier: Apache-2.0
// The prompts of requests as tokens: two for each picture, of equally many chunks, and those of a batch behind each other.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "io/tokenizer.hpp"
#include "sampling.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Of all pictures of a batch the prompt, then of all what guidance leads away from: [2][batch][chunks][length].
struct PromptTokens {
  std::span<const std::int32_t> ids{};
  std::span<const float> weights{};  // likewise; empty: all 1
  std::size_t chunks = 1, clip_skip = 0;

  Captions captions() const { return {ids.data(), weights.empty() ? nullptr : weights.data(), chunks, clip_skip}; }
};

// The same with its memory, of one picture or a batch.
class PromptPair {
 public:
  PromptPair() = default;
  // The shorter of both is filled up with chunks of nothing, the tokens of the empty prompt.
  PromptPair(const EncodedPrompt& prompt, const EncodedPrompt& negative, const EncodedPrompt& nothing, std::size_t clip_skip);

  PromptTokens tokens() const { return {ids_, weights_, chunks_, clip_skip_}; }
  // Whether both may be of one batch.
  bool passes_with(const PromptPair& other) const { return chunks_ == other.chunks_ && clip_skip_ == other.clip_skip_; }

  // Becomes the batch of these, each of one picture; there is at least one.
  void gather(std::span<const PromptPair> pictures);

 private:
  std::vector<std::int32_t> ids_;
  std::vector<float> weights_;
  std::size_t chunks_ = 1, clip_skip_ = 0;
};

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY PromptPair::PromptPair(const EncodedPrompt& prompt, const EncodedPrompt& negative,
                                            const EncodedPrompt& nothing, std::size_t clip_skip)
    : clip_skip_(clip_skip) {
  const std::size_t longest = std::max(prompt.ids.size(), negative.ids.size());
  const bool weighted = !prompt.weights.empty() || !negative.weights.empty();
  chunks_ = longest / nothing.ids.size();
  for (const EncodedPrompt* const p : {&prompt, &negative}) {
    const std::size_t end = ids_.size() + longest;
    ids_.insert(ids_.end(), p->ids.begin(), p->ids.end());
    while (ids_.size() < end) ids_.insert(ids_.end(), nothing.ids.begin(), nothing.ids.end());
    weights_.insert(weights_.end(), p->weights.begin(), p->weights.end());
    if (weighted) weights_.resize(end, 1.0f);
  }
}

MOBILEDIFFUSION_BODY void PromptPair::gather(std::span<const PromptPair> pictures) {
  const std::size_t half = pictures[0].ids_.size() / 2, n = pictures.size();
  chunks_ = pictures[0].chunks_;
  clip_skip_ = pictures[0].clip_skip_;
  ids_.resize(2 * n * half);
  const bool weighted = std::any_of(pictures.begin(), pictures.end(), [](const PromptPair& p) { return !p.weights_.empty(); });
  weights_.assign(weighted ? ids_.size() : 0, 1.0f);
  for (std::size_t i = 0; i < n; ++i) {
    const auto take = [&](const auto& from, auto& to) {
      if (from.empty()) return;
      std::copy_n(from.data(), half, to.data() + i * half);
      std::copy_n(from.data() + half, half, to.data() + (n + i) * half);
    };
    take(pictures[i].ids_, ids_);
    take(pictures[i].weights_, weights_);
  }
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
