// SPDX-License-Identifier: Apache-2.0
// CLIP's vocabulary and merges and a prompt for them: prompt, vocab.json and merges.txt with zero bytes between them, or prompt
// and tokenizer.json.
#include "fuzz.hpp"
#include "mobilediffusion/io/tokenizer.hpp"

namespace md = mobilediffusion;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view input = fuzz::text_of(data, size);
  const std::string prompt = fuzz::prompt_of(fuzz::cut(input, '\0'));
  const bool one_file = input.find('\0') == input.npos;
  const std::string_view vocabulary = fuzz::cut(input, '\0');
  return fuzz::read([&] {
    md::ClipBpe bpe = one_file ? md::ClipBpe(vocabulary) : md::ClipBpe(vocabulary, input);
    const std::int32_t end = bpe.end();
    const md::Tokenizer tokenizer(std::move(bpe), end);
    const auto count = static_cast<std::int32_t>(tokenizer.vocabulary());
    const md::EncodedPrompt encoded = tokenizer.encode_prompt(prompt, 77);
    fuzz::expect(encoded.ids.size() == 77, "as many ids as asked for");
    for (const std::int32_t id : encoded.ids) fuzz::expect(id >= 0 && id < count, "ids of the vocabulary");
  });
}
