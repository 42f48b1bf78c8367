// SPDX-License-Identifier: Apache-2.0
// An autoencoder of its own, in whatever form it is passed around.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ldm_checkpoint.hpp"
#include "safetensors.hpp"
#include "weight_files.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

// TAESD's own numbering, encoder.3.conv.0.weight and decoder.4.conv.0.weight, is that of a sequence; its decoder's begins with a
// layer that diffusers does not count. Names that are none of these stay. back: the other way round.
inline std::string tiny_vae_name(std::string_view name, bool back = false) {
  const bool decoder = name.starts_with("decoder.");
  if (!decoder && !name.starts_with("encoder.")) return std::string(name);
  std::string_view rest = name.substr(8);
  if (back) {
    if (!rest.starts_with("layers.")) return std::string(name);
    rest.remove_prefix(7);
  }
  std::size_t layer = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  if (error != std::errc() || end == rest.data() + rest.size() || *end != '.' || layer > 1000) return std::string(name);
  if (decoder && !back && layer == 0) return std::string(name);
  if (decoder) layer = back ? layer + 1 : layer - 1;
  return join({name.substr(0, 8), back ? "" : "layers.", layer, rest.substr(static_cast<std::size_t>(end - rest.data()))});
}

}  // namespace detail

// path: a folder with diffusion_pytorch_model or with vae/ in it; a file with an autoencoder by the names of diffusers, of the
// LDM layout (also one with a whole model) or of TAESD. Throws Error where there is none.
inline WeightFiles open_vae(const std::filesystem::path& path) {
  if (is_folder(path)) {
    const bool whole = is_folder(path / "vae");
    return WeightFiles(whole ? path / "vae" : path, "diffusion_pytorch_model");
  }
  auto file = std::make_shared<const SafetensorsFile>(path);
  if (LdmCheckpoint::is_one(*file)) {
    const LdmCheckpoint checkpoint(file);
    if (!checkpoint.has(LdmCheckpoint::Part::vae))
      detail::fail_file(path, {"expected an autoencoder, found none: no tensor's name begins with \"first_stage_model.\""});
    return checkpoint.part(LdmCheckpoint::Part::vae);
  }
  std::vector<WeightFiles::Tensor> tensors;
  for (const TensorView& t : file->tensors()) tensors.push_back({t, detail::tiny_vae_name(t.name), 0});
  const bool numbered = std::any_of(tensors.begin(), tensors.end(), [](const auto& t) { return t.path != t.name; });
  return {std::move(file), std::move(tensors),
          [numbered](std::string_view name) { return detail::tiny_vae_name(name, numbered); }};
}

// Whether it is TAESD or one of its kin: VaeKind::autoencoder_tiny.
inline bool is_tiny_vae(const WeightFiles& vae) {
  return std::any_of(vae.tensors().begin(), vae.tensors().end(),
                     [](const WeightFiles::Tensor& t) { return t.path.starts_with("decoder.layers."); });
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
