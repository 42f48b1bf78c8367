// SPDX-License-Identifier: Apache-2.0
// Files of textual inversion (Gal et al., arXiv 2208.01618): a few vectors that a text encoder reads in place of tokens of its
// vocabulary, and the word that stands for them in a prompt.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "message.hpp"
#include "safetensors.hpp"
#include "tokenizer.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct EmbeddingFile {
  std::filesystem::path path;
  std::string trigger{};  // empty: the one that the file says
};

struct TextualInversion {
  std::string trigger;
  std::size_t vectors = 1;
  std::vector<float> rows;  // [vectors][width of the text encoder]
  bool whole_word = false;  // a trigger that the file does not say may be an ordinary word: it is none inside others

  AddedToken token() const { return {trigger, vectors, whole_word}; }
};

namespace detail {}  // namespace detail

// A safetensors file of one tensor [width] or [vectors][width], of at most 75 vectors, as many as a prompt has tokens. Its name
// is the trigger, as diffusers writes it; where it is a general one (emb_params, as AUTOMATIC1111 converts them, and the like),
// the file's name without its ending. width: of the text encoder. Throws Error for what is no safetensors file, such as the
// pickles and pictures that were usual once, for one of more tensors, another width, and numbers that are not finite.
TextualInversion read_textual_inversion(const EmbeddingFile& file, std::size_t width);

// Throws Error as read_textual_inversion, and for two of one trigger.
std::vector<TextualInversion> read_textual_inversions(std::span<const EmbeddingFile> files, std::size_t width);

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY std::string_view family_of_text_width(std::size_t width) {
  return width == 768    ? " (Stable Diffusion 1.x)"
         : width == 1024 ? " (Stable Diffusion 2.x)"
         : width == 1280 ? " (the second text encoder of Stable Diffusion XL)"
                         : "";
}

}  // namespace detail

MOBILEDIFFUSION_BODY TextualInversion read_textual_inversion(const EmbeddingFile& file, std::size_t width) {
  constexpr std::size_t most_vectors = 75;
  const auto fail = [&](std::initializer_list<detail::Piece> what) {
    detail::fail_file(file.path, {"textual inversion: ", detail::join(what)});
  };
  const SafetensorsFile tensors(file.path);
  if (tensors.find("clip_g") != nullptr)
    fail({"expected vectors of one text encoder, found those of Stable Diffusion XL's two, clip_l and clip_g"});
  if (tensors.tensors().size() != 1) fail({"expected one tensor, found ", tensors.tensors().size()});
  const TensorView& t = tensors.tensors()[0];
  const auto fail_tensor = [&](std::initializer_list<detail::Piece> what) {
    fail({"tensor ", detail::printable(t.name), ": ", detail::join(what)});
  };
  if (t.shape.empty() || t.shape.size() > 2 || t.shape.back() == 0)
    fail_tensor({"expected shape [", width, "] or [vectors, ", width, "], found ", detail::to_text(t.shape)});
  if (const std::size_t found = t.shape.back(); found != width)
    fail_tensor({"expected vectors of ", width, " numbers", detail::family_of_text_width(width), ", found ", found,
                 detail::family_of_text_width(found)});
  const std::size_t vectors = t.shape.size() == 2 ? t.shape[0] : 1;
  if (vectors < 1 || vectors > most_vectors) fail_tensor({"expected 1 to ", most_vectors, " vectors, found ", vectors});
  TextualInversion out{file.trigger, vectors, std::vector<float>(vectors * width), false};
  tensors.read_floats(t, out.rows.data());
  if (!std::all_of(out.rows.begin(), out.rows.end(), [](float x) { return std::isfinite(x); }))
    fail_tensor({"expected finite numbers, found NaN or infinity"});
  out.whole_word = !out.trigger.empty();
  if (out.trigger.empty()) {
    const auto is_general = [&](std::string_view name) { return t.name == name; };
    const bool general = is_general("emb_params") || is_general("clip_l") || is_general("*") || is_general("string_to_param.*") ||
                         is_general("embedding") || t.name.empty();
    out.whole_word = general;
    out.trigger = general ? detail::path_text(file.path.stem()) : t.name;
  }
  return out;
}

MOBILEDIFFUSION_BODY std::vector<TextualInversion> read_textual_inversions(std::span<const EmbeddingFile> files,
                                                                           std::size_t width) {
  std::vector<TextualInversion> out;
  for (const EmbeddingFile& file : files) {
    out.push_back(read_textual_inversion(file, width));
    for (std::size_t i = 0; i + 1 < out.size(); ++i)
      if (out[i].trigger == out.back().trigger)
        detail::fail_file(file.path, {"textual inversion: trigger ", detail::printable(out[i].trigger), ": is that of file ",
                                      detail::printable(detail::path_text(files[i].path)), " too"});
  }
  return out;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
