// SPDX-License-Identifier: Apache-2.0
// A model's one file: its tensors, configuration, how it samples, and the tokenizer in its metadata. The input is a header, a
// zero byte and a sentencepiece model, whose base64 takes the place of the header's first '@'.
#include <vector>

#include "fuzz.hpp"
#include "mobilediffusion/model_source.hpp"
#include "toy_model.hpp"

namespace md = mobilediffusion;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder("model_file");
  std::string_view input = fuzz::text_of(data, size);
  std::string bytes(input);
  if (input.starts_with('{')) {
    std::string header(fuzz::cut(input, '\0'));
    if (const std::size_t at = header.find('@'); at != header.npos) header.replace(at, 1, md::base64_encode(input));
    bytes = fuzz::safetensors_file(header, {});
  }
  const auto path = folder.write("input", bytes);
  return fuzz::read([&] {
    const md::ModelSource<fuzz::toy> source(path);
    md::sampling_of(source.metadata(), {}, "input");
    const md::Tokenizer tokenizer = source.tokenizer();
    fuzz::expect(tokenizer.vocabulary() <= fuzz::toy.text.vocabulary, "a vocabulary that the text encoder knows");
    tokenizer.encode("a red apple", fuzz::toy.text.length);
    std::vector<float> memory(md::reflect::storage_floats<md::ModelWeights<fuzz::toy>>());
    md::ModelWeights<fuzz::toy> weights{};
    md::reflect::bind(weights, memory.data());
    source.read(weights, [](const md::reflect::LeafView&, std::span<const float>) {});
  });
}
