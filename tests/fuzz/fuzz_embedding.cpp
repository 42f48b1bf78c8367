// SPDX-License-Identifier: Apache-2.0
// Files of textual inversion, read and added to a tokenizer.
#include <algorithm>
#include <cmath>
#include <vector>

#include "fuzz.hpp"
#include "io/clip_files.hpp"
#include "mobilediffusion/io/textual_inversion.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace md = mobilediffusion;
  constexpr std::size_t width = 6, first_id = 40;
  static const fuzz::Folder folder("embedding");
  static const md::Tokenizer plain(md::ClipBpe(clip_files::vocab(), clip_files::merges()), 28);
  const md::EmbeddingFile file{folder.write("input.safetensors", fuzz::safetensors_file(fuzz::text_of(data, size)))};
  return fuzz::read([&] {
    const auto inversions = md::read_textual_inversions(std::span(&file, 1), width);
    const md::TextualInversion& inversion = inversions.front();
    fuzz::expect(inversion.rows.size() == inversion.vectors * width, "rows of the text encoder's width");
    fuzz::expect(std::all_of(inversion.rows.begin(), inversion.rows.end(), [](float x) { return std::isfinite(x); }),
                 "finite vectors");
    const std::vector<md::AddedToken> added{inversion.token()};
    const md::Tokenizer tokenizer = plain.with_tokens(added, first_id);
    const auto ids = tokenizer.encode(inversion.trigger.substr(0, md::Tokenizer::longest_prompt), 77);
    for (const std::int32_t id : ids)
      fuzz::expect(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocabulary(), "ids of the vocabulary");
    if (inversion.trigger.size() <= md::Tokenizer::longest_prompt)
      fuzz::expect(std::find(ids.begin(), ids.end(), static_cast<std::int32_t>(first_id)) != ids.end(),
                   "the trigger's own ids for the trigger");
  });
}
