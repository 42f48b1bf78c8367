// SPDX-License-Identifier: Apache-2.0
// A sentencepiece model and a prompt for it: the prompt, a zero byte, the model's bytes.
#include "fuzz.hpp"
#include "mobilediffusion/io/tokenizer.hpp"

namespace md = mobilediffusion;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view input = fuzz::text_of(data, size);
  const std::string prompt = fuzz::prompt_of(fuzz::cut(input, '\0'));
  return fuzz::read([&] {
    const md::Tokenizer tokenizer(input);
    const auto vocabulary = static_cast<std::int32_t>(tokenizer.vocabulary());
    const md::EncodedPrompt encoded = tokenizer.encode_prompt(prompt, 77);
    fuzz::expect(encoded.ids.size() == 77, "as many ids as asked for");
    for (const std::int32_t id : encoded.ids) fuzz::expect(id >= 0 && id < vocabulary, "ids of the vocabulary");
  });
}
