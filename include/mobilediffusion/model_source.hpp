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
#include "io/clip_folder.hpp"
#include "io/weight_files.hpp"
#include "model_file.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

// UNets that can be told from the number of their tensors and parameters.
struct KnownUnet {
  std::string_view preset;
  std::size_t tensors, parameters;
};
inline constexpr std::array<KnownUnet, 7> known_unets{{{"presets::sd15", 686, 859'520'964},
                                                       {"presets::sd21", 686, 865'910'724},
                                                       {"presets::bk_sdm_base", 442, 579'384'964},
                                                       {"presets::bk_sdm_small", 396, 482'346'884},
                                                       {"presets::bk_sdm_tiny", 358, 323'384'964},
                                                       {"presets::full", 496, 391'726'152},
                                                       {"presets::lite", 454, 261'518'280}}};
inline std::string preset_of(std::span<const TensorView> tensors) {
  std::size_t parameters = 0;
  for (const TensorView& t : tensors) parameters += t.count();
  for (const KnownUnet& k : known_unets)
    if (k.tensors == tensors.size() && k.parameters == parameters) return std::string(k.preset);
  return "";
}

inline nlohmann::json read_json(const std::filesystem::path& path) {
  auto json = nlohmann::json::parse(read_file(path), nullptr, false);
  if (!json.is_object()) throw Error(join({"file ", printable(path.string()), ": expected a JSON object"}));
  return json;
}

}  // namespace detail

// Opened and checked: every tensor is there with its shape, and none besides, before anything is used.
template <ModelConfig M>
class ModelSource {
 public:
  // path: a file that write_model wrote, or a folder as diffusers lays it out: unet/diffusion_pytorch_model, vae/
  // diffusion_pytorch_model and text_encoder/model (safetensors, sharded or not, F32, F16 or BF16), tokenizer/ with CLIP's
  // vocab.json and merges.txt, or tokenizer.json. Throws Error naming the file, the tensor, what was expected and what was
  // found; for the UNet of another preset also its name.
  explicit ModelSource(const std::filesystem::path& path) : path_(path) {
    if (!std::filesystem::is_directory(path)) {
      file_.emplace(path);
      check_model<M>(*file_);
      return;
    }
    if (!std::filesystem::is_directory(path / "unet"))
      throw Error(
          detail::join({"file ", detail::printable(path.string()),
                        ": cannot open: it is not a regular file, nor a folder of the diffusers layout: unet is missing"}));
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
    check_exactly_weights<typename TextEncoder<M.text>::Weights>(*text_encoder_);
    check_prediction();
  }

  // Throws Error for one that is missing, damaged, or of more tokens than the text encoder knows.
  Tokenizer tokenizer() const {
    if (file_) return read_tokenizer(*file_, M.text.vocabulary);
    Tokenizer tokenizer = read_clip_tokenizer(path_ / "tokenizer");
    if (tokenizer.vocabulary() > M.text.vocabulary)
      throw Error(detail::join({"folder ", detail::printable((path_ / "tokenizer").string()), ": expected at most ",
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
  // The same tensors may have learnt to put out noise or v: a mix-up would only show in the pictures.
  void check_prediction() const {
    const auto path = path_ / "scheduler" / "scheduler_config.json";
    if (!std::filesystem::exists(path)) return;
    const auto json = detail::read_json(path);
    const auto at = json.find("prediction_type");
    if (at == json.end() || !at->is_string()) return;
    constexpr std::string_view expected = M.sampler.prediction == Prediction::v         ? "v_prediction"
                                          : M.sampler.prediction == Prediction::epsilon ? "epsilon"
                                                                                        : "sample";
    if (const auto found = at->get<std::string>(); found != expected)
      throw Error(detail::join({"file ", detail::printable(path.string()), ": prediction_type: expected ", expected, ", found ",
                                detail::printable(found), "; set the configuration's `sampler.prediction`"}));
  }

  std::filesystem::path path_;
  std::optional<SafetensorsFile> file_;
  std::optional<WeightFiles> unet_, vae_, text_encoder_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
