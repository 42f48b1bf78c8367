// SPDX-License-Identifier: Apache-2.0
// Where a model's weights come from: one file of this library, or a checkpoint of the open Stable Diffusion family, as a folder
// of the diffusers layout or one file of the LDM layout.
#pragma once

#include "core/begin.hpp"

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "config/presets.hpp"
#include "folder_config.hpp"
#include "io/clip_folder.hpp"
#include "io/ldm_checkpoint.hpp"
#include "io/vae_file.hpp"
#include "io/weight_files.hpp"
#include "model_file.hpp"
#include "model_kind.hpp"
#include "scheduler_config.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

// What a text encoder's file may hold besides: a constant of old ones, the projections of CLIP's two halves, its other half.
inline constexpr auto is_not_of_text_encoder = [](std::string_view name) {
  return name.ends_with("position_ids") || name == "text_projection.weight" || name == "visual_projection.weight" ||
         name == "logit_scale" || name.starts_with("vision_model.");
};

// Throws Error, with what it is, for a file of weights that is none of this library but well known.
void check_kind(const ModelKind& kind, const SafetensorsFile& file);

// Of a UNet that is not the compiled one: what it is, as far as that is known.
std::string hint_of(const WeightFiles& unet);

// The first of these folders that holds CLIP's tokenizer, or none.
std::optional<std::filesystem::path> find_tokenizer(std::initializer_list<std::filesystem::path> folders);

}  // namespace detail

// Where a model is read from, beside adapters.
struct ModelPaths {
  std::filesystem::path model;
  std::filesystem::path vae{};         // another autoencoder of the model's kind (open_vae) than the model's own
  std::filesystem::path vocabulary{};  // a folder with CLIP's tokenizer, for a one-file checkpoint, which has none
};

// Opened and checked: every tensor is there with its shape, and none besides, before anything is used.
template <ModelConfig M>
class ModelSource {
  static constexpr bool two_texts = is_present(M.text_2);

 public:
  // path: a file that write_model wrote; a folder as diffusers lays it out: unet/diffusion_pytorch_model, vae/
  // diffusion_pytorch_model and text_encoder/model, also text_encoder_2/model where the configuration has a second (safetensors,
  // sharded or not, of float_dtypes), tokenizer/ with CLIP's
  // vocab.json and merges.txt, or tokenizer.json; or one file with all networks in the LDM layout. A folder's config.json and
  // scheduler/scheduler_config.json, where they are there, must not contradict the configuration (folder_config.hpp).
  // vocabulary: a folder with CLIP's tokenizer, for a one-file checkpoint, which has none; empty: the file's own folder, or
  // tokenizer/ in it. Throws Error naming the file, the tensor, what was expected and what was found; for the UNet of another
  // preset also its name.
  explicit ModelSource(const std::filesystem::path& path) : ModelSource(ModelPaths{path}) {}
  explicit ModelSource(const ModelPaths& paths) : path_(paths.model), vocabulary_(paths.vocabulary) {
    if (!paths.vae.empty()) use_vae(paths.vae);
    if (kind_of(path_) == PathKind::folder) {
      open_folder();
      return;
    }
    open_file(std::make_shared<const SafetensorsFile>(path_));
  }
  // The same from a file that is already open: in memory, or a part of another one. Its bytes must live as long as the source; a
  // Model has its own. paths.model: ignored.
  explicit ModelSource(SafetensorsFile file, const ModelPaths& paths = {}) : path_(file.name()), vocabulary_(paths.vocabulary) {
    if (!paths.vae.empty()) use_vae(paths.vae);
    open_file(std::make_shared<const SafetensorsFile>(std::move(file)));
  }

  // How a request that does not say is drawn, and over which noise: what the file's metadata or the folder's scheduler say, else
  // the configuration. Throws Error for metadata that no request may have.
  SamplingOptions sampling(SamplingOptions otherwise) const {
    if (scheduler_) otherwise.sampler = scheduler_->sampler;
    return file_ ? sampling_of(file_->metadata(), otherwise, detail::path_text(path_)) : otherwise;
  }
  // With two text encoders: a folder's model_index.json may say otherwise (force_zeros_for_empty_prompt).
  bool zeros_for_empty_negative() const { return zeros_for_empty_negative_; }
  NoiseSchedule schedule() const { return scheduler_ ? scheduler_->schedule : NoiseSchedule(M.sampler.schedule); }
  // What people should know of how it is read; empty: nothing.
  std::string note() const { return scheduler_ ? scheduler_->note : ""; }

  // Throws Error for one that is missing, damaged, or of more tokens than the text encoder knows.
  Tokenizer tokenizer() const {
    if (file_) return read_tokenizer(*file_, M.text.vocabulary);
    std::filesystem::path folder = path_ / "tokenizer";
    if (is_checkpoint_) {
      const std::filesystem::path beside = vocabulary_.empty() ? path_.parent_path() : vocabulary_;
      const auto found = detail::find_tokenizer({beside / "tokenizer", beside});
      if (!found)
        detail::fail_file(path_,
                          {"a one-file checkpoint holds no vocabulary, and none is in ",
                           detail::printable(detail::path_text(beside.empty() ? "." : beside)),
                           ": expected CLIP's merges.txt (with vocab.json, or alone) or tokenizer.json, there or in a folder "
                           "`tokenizer` in it"});
      folder = *found;
    }
    // Which token fills prompts up is the text encoder's, whatever vocabulary lies there.
    const Tokenizer tokenizer = read_clip_tokenizer(folder, !is_checkpoint_ ? "" : is_open_clip_ ? "!" : "<|endoftext|>");
    if (tokenizer.vocabulary() > M.text.vocabulary)
      throw Error(detail::join({"folder ", detail::printable(detail::path_text(folder)), ": expected at most ", M.text.vocabulary,
                                " tokens, found ", tokenizer.vocabulary()}));
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
    if (file_ && !vae_) return read_weights(*file_, "", weights, take);
    if (file_) {
      read_weights(*file_, "text_encoder.", weights.text_encoder, take);
      if constexpr (two_texts) read_weights(*file_, "text_encoder_2.", weights.text_encoder_2, take);
      read_weights(*file_, "unet.", weights.unet, take);
      read_weights(*vae_, "", weights.vae, take);
      return;
    }
    read_weights(*text_encoder_, "", weights.text_encoder, take);
    if constexpr (two_texts) read_weights(*text_encoder_2_, "", weights.text_encoder_2, take);
    read_weights(*unet_, "", weights.unet, take);
    read_weights(*vae_, "", weights.vae, take);
  }

 private:
  void open_file(std::shared_ptr<const SafetensorsFile> file) {
    const ModelKind kind = detail::judge_file(file);
    if (kind.layout == ModelKind::Layout::ldm_file) {
      open_checkpoint(LdmCheckpoint(file), kind);
      return;
    }
    detail::check_kind(kind, *file);
    check_model<M>(*file);
    file_ = std::move(file);
  }
  void open_folder() {
    if (!is_folder(path_ / "unet")) {
      const bool part = path_exists(path_ / "config.json") && !path_exists(path_ / "model_index.json");
      detail::fail_file(path_, {"cannot open: it is not a regular file, nor a folder of the diffusers layout: unet is missing",
                                part ? "; it looks like one network of such a folder: give the folder around it" : ""});
    }
    unet_.emplace(path_ / "unet", "diffusion_pytorch_model");
    check_unet();
    if (!vae_) {
      vae_.emplace(path_ / "vae", "diffusion_pytorch_model");
      check_exactly_weights<typename Vae<M.vae>::Weights>(*vae_);
      check_config("vae", "config.json", detail::check_vae_config, M.vae);
    }
    text_encoder_.emplace(path_ / "text_encoder", "model");
    check_exactly_weights<typename TextEncoder<M.text>::Weights>(*text_encoder_, detail::is_not_of_text_encoder);
    if constexpr (two_texts) {
      text_encoder_2_.emplace(path_ / "text_encoder_2", "model");
      check_exactly_weights<TextEncoderWeights<M.text_2>>(*text_encoder_2_, detail::is_not_of_text_encoder);
    }
    check_configs();
  }

  void open_checkpoint(const LdmCheckpoint& checkpoint, const ModelKind& kind) {
    using Part = LdmCheckpoint::Part;
    for (const auto& [part, name] : {std::pair{Part::unet, "a UNet"},
                                     {Part::vae, "an autoencoder"},
                                     {Part::text_encoder, "a text encoder"},
                                     {two_texts ? Part::text_encoder_2 : Part::text_encoder, "a second text encoder"}})
      if (!checkpoint.has(part) && !(part == Part::vae && vae_))
        detail::fail_file(path_,
                          {"expected UNet, autoencoder and text encoder, found none that is ", name, ", but ", kind.text()});
    unet_.emplace(checkpoint.part(Part::unet));
    check_unet();
    if (!vae_) {
      vae_.emplace(checkpoint.part(Part::vae));
      check_exactly_weights<typename Vae<M.vae>::Weights>(*vae_);
    }
    text_encoder_.emplace(checkpoint.part(Part::text_encoder));
    // OpenCLIP's last layer, which these models do not run: they read what the last but one puts out.
    const std::string last = detail::join({".resblocks.", M.text.layers, "."});
    const auto is_last = [&](std::string_view name) { return checkpoint.is_open_clip() && name.find(last) != name.npos; };
    check_exactly_weights<typename TextEncoder<M.text>::Weights>(*text_encoder_, is_last);
    if constexpr (two_texts) {
      text_encoder_2_.emplace(checkpoint.part(Part::text_encoder_2));
      check_exactly_weights<TextEncoderWeights<M.text_2>>(*text_encoder_2_);
    } else if (checkpoint.has(Part::text_encoder_2))
      detail::fail_file(path_, {"expected one text encoder, found a second, of Stable Diffusion XL"});
    if (!checkpoint.unknown().empty())
      detail::fail_file(path_, {"tensor ", detail::printable(checkpoint.unknown().front()->name),
                                ": belongs to no network of the model, and is not known as one that can be left out"});
    if (const auto stated = detail::stated_prediction(checkpoint.file()); stated && *stated != M.sampler.prediction)
      detail::fail_file(path_,
                        {"expected a UNet that puts out ", name_of(M.sampler.prediction),
                         " (the configuration's `sampler.prediction`), found one that puts out ", name_of(*stated),
                         checkpoint.file().find("v_pred") != nullptr ? ": it holds the tensor \"v_pred\""
                                                                     : ": its metadata say so (modelspec.prediction_type)"});
    if (checkpoint.file().find("ztsnr") != nullptr)
      detail::fail_file(path_,
                        {"tensor \"ztsnr\": says that the noise schedule ends in noise alone, which the configuration does not"});
    is_checkpoint_ = true;
    is_open_clip_ = checkpoint.is_open_clip() || kind.family == ModelKind::Family::sd2;
  }

  void check_unet() const {
    try {
      check_exactly_weights<typename Unet<M.unet>::Weights>(*unet_);
    } catch (const Error& e) {
      const std::string hint = detail::hint_of(*unet_);
      if (hint.empty()) throw;
      throw Error(e.what() + hint);
    }
  }

  // What tensors cannot show. A folder may lack these files: then the configuration is believed.
  template <class F, class Config>
  void check_config(const char* folder, const char* name, F&& f, const Config& config) const {
    if (const auto path = path_ / folder / name; path_exists(path)) f(path, config);
  }
  void check_configs() {
    check_config("unet", "config.json", detail::check_unet_config, M.unet);
    check_config("text_encoder", "config.json", detail::check_text_encoder_config, M.text);
    if constexpr (two_texts) {
      check_config("text_encoder_2", "config.json", detail::check_text_encoder_config, M.text_2);
      if (const auto index = path_ / "model_index.json"; path_exists(index))
        zeros_for_empty_negative_ = detail::read_flag(index, "force_zeros_for_empty_prompt", true);
    }
    check_config(
        "scheduler", "scheduler_config.json",
        [&](const std::filesystem::path& path, const SamplerConfig& c) { scheduler_ = read_scheduler_config(path, c); },
        M.sampler);
  }

  void use_vae(const std::filesystem::path& path) {
    vae_.emplace(open_vae(path));
    check_exactly_weights<typename Vae<M.vae>::Weights>(*vae_);
    for (const auto& config : {path / "vae" / "config.json", path / "config.json"})
      if (is_folder(path) && path_exists(config)) {
        detail::check_vae_config(config, M.vae);
        break;
      }
  }

  std::filesystem::path path_, vocabulary_;
  std::shared_ptr<const SafetensorsFile> file_;  // of this library, or
  std::optional<WeightFiles> unet_, vae_, text_encoder_, text_encoder_2_;
  std::optional<SchedulerConfig> scheduler_;
  bool zeros_for_empty_negative_ = two_texts;
  bool is_checkpoint_ = false, is_open_clip_ = false;  // of the LDM layout; with the text encoder of the second family
};

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY void check_kind(const ModelKind& kind, const SafetensorsFile& file) {
  if (kind.contents == ModelKind::Contents::unknown || kind.layout == ModelKind::Layout::library_file) return;
  throw Error(join({"file ", printable(file.name()),
                    ": expected a model of this library, a one-file checkpoint or a folder of the diffusers layout, found ",
                    kind.text()}));
}

MOBILEDIFFUSION_BODY std::string hint_of(const WeightFiles& unet) {
  ModelKind kind;
  judge_unet(unet, kind);
  if (!kind.presets.empty()) return join({" (these are the tensors of ", preset_of(unet.tensors()), ")"});
  if (kind.name.empty()) return "";
  return join({" (this looks like ", kind.name, kind.nearest.empty() ? "" : "; the nearest preset is presets::", kind.nearest,
               kind.difference.empty() ? "" : ": ", kind.difference, ")"});
}

MOBILEDIFFUSION_BODY std::optional<std::filesystem::path> find_tokenizer(std::initializer_list<std::filesystem::path> folders) {
  for (const auto& folder : folders)
    if (holds_clip_tokenizer(folder)) return folder;
  return std::nullopt;
}

}  // namespace detail

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
