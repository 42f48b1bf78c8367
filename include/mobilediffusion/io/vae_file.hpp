// SPDX-License-Identifier: Apache-2.0
// An autoencoder of its own, in whatever form it is passed around.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "ldm_checkpoint.hpp"
#include "safetensors.hpp"
#include "weight_files.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// path: a folder with diffusion_pytorch_model or with vae/ in it; a file with an autoencoder by the names of diffusers, of the
// LDM layout or of TAESD, alone or (then after "vae." or "first_stage_model.") with a whole model. Throws Error where there is
// none.
WeightFiles open_vae(const std::filesystem::path& path);

// Whether it is TAESD or one of its kin: VaeKind::autoencoder_tiny.
bool is_tiny_vae(const WeightFiles& vae);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY WeightFiles open_vae(const std::filesystem::path& path) {
  if (is_folder(path)) {
    const bool whole = is_folder(path / "vae");
    return WeightFiles(whole ? path / "vae" : path, "diffusion_pytorch_model");
  }
  auto file = std::make_shared<const SafetensorsFile>(path);
  const auto tensors_of_file = file->tensors();
  const bool named =
      std::any_of(tensors_of_file.begin(), tensors_of_file.end(), [](const TensorView& t) { return t.name.starts_with("vae."); });
  if (named || LdmCheckpoint::is_one(*file)) {
    const LdmCheckpoint checkpoint(file);
    if (!checkpoint.has(LdmCheckpoint::Part::vae))
      detail::fail_file(path, {"expected an autoencoder, found none: no tensor's name begins with \"first_stage_model.\""});
    return checkpoint.part(LdmCheckpoint::Part::vae);
  }
  std::vector<std::string_view> names;
  for (const TensorView& t : file->tensors()) names.push_back(t.name);
  const detail::LdmNames translation = detail::ldm_vae_names(names);
  std::vector<WeightFiles::Tensor> tensors;
  for (const TensorView& t : file->tensors()) tensors.push_back({t, translation.to_diffusers(t.name), 0});
  return {std::move(file), std::move(tensors), [translation](std::string_view name) { return translation.to_ldm(name); }};
}

MOBILEDIFFUSION_BODY bool is_tiny_vae(const WeightFiles& vae) {
  return std::any_of(vae.tensors().begin(), vae.tensors().end(),
                     [](const WeightFiles::Tensor& t) { return t.path.starts_with("decoder.layers."); });
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
