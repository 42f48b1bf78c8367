// SPDX-License-Identifier: Apache-2.0
// What a file is, and one-file checkpoints of the LDM layout, checked and read; the vocabulary lies beside them.
#include <algorithm>
#include <vector>

#include "fuzz.hpp"
#include "io/clip_files.hpp"
#include "mobilediffusion/model_source.hpp"
#include "toy_model.hpp"

namespace md = mobilediffusion;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder("checkpoint");
  static const bool vocabulary = [] {
    folder.write("vocab.json", clip_files::vocab());
    folder.write("merges.txt", clip_files::merges());
    return true;
  }();
  static_cast<void>(vocabulary);
  const auto path = folder.write("input", fuzz::safetensors_file(fuzz::text_of(data, size)));
  return fuzz::read([&] {
    const md::ModelKind kind = md::identify(path);
    fuzz::expect(!kind.text().empty() && kind.text().find('\n') == std::string::npos, "one line of what a file is");
    const md::ModelSource<fuzz::toy> source(path);
    fuzz::expect(kind.layout != md::ModelKind::Layout::network_file, "a model to be known as one");
    if (kind.layout == md::ModelKind::Layout::library_file) return;
    source.tokenizer().encode("a red cat", fuzz::toy.text.length);
    std::vector<float> memory(md::reflect::storage_floats<md::ModelWeights<fuzz::toy>>());
    md::ModelWeights<fuzz::toy> weights{};
    md::reflect::bind(weights, memory.data());
    source.read(weights, [](const md::reflect::LeafView&, std::span<const float> values) {
      fuzz::expect(std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }), "finite weights");
    });
  });
}
