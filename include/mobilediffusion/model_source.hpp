// SPDX-License-Identifier: Apache-2.0
// Where a model's weights come from: one file of this library, or a folder of the open Stable Diffusion family.
#pragma once

#include "core/begin.hpp"

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "config/presets.hpp"
#include "folder_config.hpp"
#include "io/clip_folder.hpp"
#include "io/json.hpp"
#include "io/weight_files.hpp"
#include "model_file.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

// UNets that can be told from the number of their tensors and parameters.
struct KnownUnet {
  std::string_view preset;
  std::size_t tensors, parameters;
};
inline constexpr std::array<KnownUnet, 15> known_unets{
    {{"presets::sd15", 686, 859'520'964},
     {"presets::sd15_inpainting", 686, 859'535'364},
     {"presets::lcm_dreamshaper", 687, 859'602'884},
     {"presets::sd21_base, presets::sd21 or presets::sd_turbo", 686, 865'910'724},
     {"presets::sd2_inpainting", 686, 865'925'124},
     {"presets::bk_sdm_base", 442, 579'384'964},
     {"presets::bk_sdm_small", 396, 482'346'884},
     {"presets::bk_sdm_tiny", 358, 323'384'964},
     {"presets::bk_sdm_v2_base", 442, 583'480'964},
     {"presets::bk_sdm_v2_small", 396, 485'787'524},
     {"presets::bk_sdm_v2_tiny", 358, 326'825'604},
     {"presets::sdxs_512_dreamshaper", 280, 315'746'244},
     {"presets::sdxs_512_09", 358, 328'177'284},
     {"presets::full", 496, 391'726'152},
     {"presets::lite", 454, 261'518'280}}};
template <class Tensors>
std::string preset_of(const Tensors& tensors) {
  std::size_t parameters = 0;
  for (const TensorView& t : tensors) parameters += t.count();
  for (const KnownUnet& k : known_unets)
    if (k.tensors == tensors.size() && k.parameters == parameters) return std::string(k.preset);
  return "";
}

// What a text encoder's file may hold besides: a constant of old ones, the projections of CLIP's two halves, its other half.
inline constexpr auto is_not_of_text_encoder = [](std::string_view name) {
  return name.ends_with("position_ids") || name == "text_projection.weight" || name == "visual_projection.weight" ||
         name == "logit_scale" || name.starts_with("vision_model.");
};

// Throws Error, with what it is, for a file of weights that is none of this library but well known.
inline void check_kind(const SafetensorsFile& file) {
  if (file.metadata().contains(configuration_key) || file.metadata().contains(former_key)) return;
  const auto holds = [&](auto&& is) {
    return std::any_of(file.tensors().begin(), file.tensors().end(),
                       [&](const TensorView& t) { return is(std::string_view(t.name)); });
  };
  const auto fail = [&](const char* found) {
    throw Error(join({"file ", printable(file.name()),
                      ": expected a model of this library, or a folder of the diffusers layout, found ", found}));
  };
  if (holds([](auto n) { return n.starts_with("model.diffusion_model.") || n.starts_with("first_stage_model."); }))
    fail(
        "a one-file checkpoint of the LDM layout (original Stable Diffusion), which is not read so far; diffusers converts it to "
        "a folder");
  if (holds([](auto n) { return n.find("lora") != n.npos || n.find("hada_w") != n.npos || n.find("lokr_w") != n.npos; }))
    fail("adapters (LoRA) without a model");
  if (holds([](auto n) { return n.starts_with("down_blocks.") || n.starts_with("input_blocks."); })) fail("a UNet alone");
  if (holds([](auto n) { return n.starts_with("decoder.conv_in."); })) fail("an autoencoder alone");
  if (holds([](auto n) { return n.starts_with("text_model."); })) fail("a text encoder alone");
}

}  // namespace detail

// Opened and checked: every tensor is there with its shape, and none besides, before anything is used.
template <ModelConfig M>
class ModelSource {
 public:
  // path: a file that write_model wrote, or a folder as diffusers lays it out: unet/diffusion_pytorch_model, vae/
  // diffusion_pytorch_model and text_encoder/model (safetensors, sharded or not, F32, F16 or BF16), tokenizer/ with CLIP's
  // vocab.json and merges.txt, or tokenizer.json. Their config.json and scheduler/scheduler_config.json, where they are there,
  // must not contradict the configuration (folder_config.hpp). Throws Error naming the file, the tensor, what was expected and
  // what was found; for the UNet of another preset also its name.
  explicit ModelSource(const std::filesystem::path& path) : path_(path) {
    if (kind_of(path) != PathKind::folder) {
      file_.emplace(path);
      detail::check_kind(*file_);
      check_model<M>(*file_);
      return;
    }
    if (!is_folder(path / "unet")) {
      const bool part = path_exists(path / "config.json") && !path_exists(path / "model_index.json");
      detail::fail_file(path, {"cannot open: it is not a regular file, nor a folder of the diffusers layout: unet is missing",
                               part ? "; it looks like one network of such a folder: give the folder around it" : ""});
    }
    unet_.emplace(path / "unet", "diffusion_pytorch_model");
    try {
      check_exactly_weights<typename Unet<M.unet>::Weights>(*unet_);
    } catch (const Error& e) {
      const std::string preset = detail::preset_of(unet_->tensors());
      if (preset.empty()) throw;
      throw Error(detail::join({e.what(), " (these are the tensors of ", preset, ")"}));
    }
    vae_.emplace(path / "vae", "diffusion_pytorch_model");
    check_exactly_weights<typename Vae<M.vae>::Weights>(*vae_);
    text_encoder_.emplace(path / "text_encoder", "model");
    check_exactly_weights<typename TextEncoder<M.text>::Weights>(*text_encoder_, detail::is_not_of_text_encoder);
    check_configs();
  }

  // Throws Error for one that is missing, damaged, or of more tokens than the text encoder knows.
  Tokenizer tokenizer() const {
    if (file_) return read_tokenizer(*file_, M.text.vocabulary);
    Tokenizer tokenizer = read_clip_tokenizer(path_ / "tokenizer");
    if (tokenizer.vocabulary() > M.text.vocabulary)
      throw Error(detail::join({"folder ", detail::printable(detail::path_text(path_ / "tokenizer")), ": expected at most ",
                                M.text.vocabulary, " tokens, found ", tokenizer.vocabulary()}));
    return tokenizer;
  }
  Metadata metadata() const {
    Metadata m = file_ ? file_->metadata() : Metadata{};
    m.erase(detail::tokenizer_key);
    return m;
  }
  // take(leaf, values): see read_weights.
  template <class F>
  void read(ModelWeights<M>& weights, F&& take) const {
    if (file_) return read_weights(*file_, "", weights, take);
    read_weights(*text_encoder_, "", weights.text_encoder, take);
    read_weights(*unet_, "", weights.unet, take);
    read_weights(*vae_, "", weights.vae, take);
  }

 private:
  // What tensors cannot show. A folder may lack these files: then the configuration is believed.
  void check_configs() const {
    const auto check = [&](const char* folder, const char* name, auto&& f, const auto& config) {
      if (const auto path = path_ / folder / name; path_exists(path)) f(path, config);
    };
    check("unet", "config.json", detail::check_unet_config, M.unet);
    check("vae", "config.json", detail::check_vae_config, M.vae);
    check("text_encoder", "config.json", detail::check_text_encoder_config, M.text);
    check("scheduler", "scheduler_config.json", detail::check_scheduler_config, M.sampler);
  }

  std::filesystem::path path_;
  std::optional<SafetensorsFile> file_;
  std::optional<WeightFiles> unet_, vae_, text_encoder_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
