// SPDX-License-Identifier: Apache-2.0
// A prompt with weights, in chunks.
#include <cmath>

#include "fuzz.hpp"
#include "io/clip_files.hpp"
#include "mobilediffusion/io/tokenizer.hpp"

namespace md = mobilediffusion;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t length = 77, most = 3;
  static const md::ClipBpe bpe(clip_files::vocab(), clip_files::merges());
  static const md::Tokenizer tokenizer(bpe, bpe.end());
  const std::string prompt = fuzz::prompt_of(fuzz::text_of(data, size));
  return fuzz::read([&] {
    const md::EncodedPrompt encoded = tokenizer.encode_prompt(prompt, length, {.most_chunks = most, .weights = true});
    const std::size_t chunks = encoded.ids.size() / length;
    fuzz::expect(chunks >= 1 && chunks <= most && encoded.ids.size() == chunks * length, "one to three whole chunks");
    fuzz::expect(encoded.weights.empty() || encoded.weights.size() == encoded.ids.size(), "a weight for each id, or none");
    for (std::size_t i = 0; i < chunks; ++i) {
      fuzz::expect(encoded.ids[i * length] == bpe.begin(), "a begin in front of each chunk");
      fuzz::expect(encoded.ids[i * length + length - 1] == bpe.end(), "an end or a pad behind each chunk");
    }
    for (const float weight : encoded.weights) fuzz::expect(std::abs(weight) <= 1000.0f, "weights within their limits");
    std::size_t bytes = 0;
    for (const md::PromptPiece& piece : md::parse_prompt_weights(prompt)) bytes += piece.text.size();
    fuzz::expect(bytes <= prompt.size(), "pieces of the prompt's own text");
  });
}
