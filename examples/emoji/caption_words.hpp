// SPDX-License-Identifier: Apache-2.0
// The words of all captions that a vocabulary gives, into the metadata of the models that learn them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "../common/known_words.hpp"
#include "dataset.hpp"
#include "mobilediffusion/io/safetensors.hpp"
#include "training.hpp"

namespace emoji {

// Whether training shows a combination or holds it out makes no difference here: a model is expected to combine.
inline examples::KnownWords words_of_captions(const Vocabulary& vocabulary) {
  Visibility all(vocabulary.size());
  for (auto& row : all) row.fill(true);
  const Dataset dataset(vocabulary, all, 0);
  examples::KnownWords words;
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    if (!dataset.in_training(i)) continue;
    const Phrase& phrase = vocabulary[i].phrase;
    words.add_thing(phrase.with_article() + (phrase.plural.empty() ? "" : " / " + phrase.plural));
    for (std::size_t b = 0; b < backgrounds.size(); ++b) words.add_caption(dataset.single(i, b).caption);
    if (phrase.plural.empty()) continue;
    for (std::size_t n = 2; n <= 4; ++n) words.add_caption(dataset.count(i, n, white_background).caption);
    words.add_caption(dataset.left_of(i, i, white_background).caption);
    words.add_caption(dataset.above(i, i, white_background).caption);
    for (const bool big : {true, false}) words.add_caption(dataset.sizes(i, i, big, white_background).caption);
  }
  return words;
}

// Writes them into a model's file that was made before files had them. Its tensors stay byte for byte.
inline void add_words_to(const std::filesystem::path& path) {
  const std::vector<Entry> names = read_names();
  const md::SafetensorsFile file(path);
  md::Metadata metadata = file.metadata();
  words_of_captions(Vocabulary(trained_level(metadata, names), names)).write(metadata);
  std::vector<md::TensorToWrite> tensors;
  for (const md::TensorView& t : file.tensors())
    tensors.push_back(
        {.name = t.name, .dtype = t.dtype, .shape = t.shape, .fill = [&](std::span<std::byte> out) { file.read_bytes(t, out); }});
  md::write_safetensors(path, tensors, metadata);
}

}  // namespace emoji
