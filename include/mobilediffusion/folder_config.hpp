// SPDX-License-Identifier: Apache-2.0
// The configuration files of a folder of the diffusers layout, as far as tensors cannot show what they say: heads, norms,
// activations, scaling. What differs from the compiled model is refused by name, since it would only show in the pictures.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>

#include "config/config.hpp"
#include "io/json.hpp"
#include "io/message.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {
namespace detail {

// A field of a folder's file that is true or false.
bool read_flag(const std::filesystem::path& path, std::string_view name, bool otherwise);

// diffusers' UNet2DConditionModel.
void check_unet_config(const std::filesystem::path& path, const UnetConfig& c);

// diffusers' AutoencoderKL.
void check_vae_config(const std::filesystem::path& path, const VaeConfig& c);

// transformers' CLIPTextModel. Its file holds what every kind of model has, so that unknown fields say nothing.
void check_text_encoder_config(const std::filesystem::path& path, const TextEncoderConfig& c);

#ifdef MOBILEDIFFUSION_BODIES

// One of these files; every field is either compared, or known to change nothing, or refused.
class ConfigFile {
 public:
  using Json = nlohmann::json;
  explicit ConfigFile(const std::filesystem::path& path) : path_(path), json_(read_json(path)) {}

  // What a field says, or what leaving it out means.
  Json value(std::string_view name, const Json& otherwise) {
    known_.emplace(name);
    const auto at = json_.find(name);
    return at == json_.end() ? otherwise : *at;
  }
  // Throws Error unless the field is one of `accepted`, the first of which messages name.
  void expect(std::string_view name, std::initializer_list<Json> accepted, const Json& otherwise) {
    const Json found = value(name, otherwise);
    if (std::none_of(accepted.begin(), accepted.end(), [&](const Json& a) { return same(a, found); }))
      refuse(name, accepted.begin()->dump(), found);
  }
  // The same where leaving it out means what is expected.
  void expect(std::string_view name, const Json& expected) { expect(name, {expected}, expected); }
  // Fields that change nothing here, or that tensors show.
  void ignore(std::initializer_list<std::string_view> names) { known_.insert(names.begin(), names.end()); }
  // Throws Error for any other field, unless it is off.
  void finish() const {
    for (const auto& [name, found] : json_.items())
      if (!known_.contains(name) && !name.starts_with('_') && !found.is_null() && found != Json(false))
        fail_file(path_, {"field ", printable(name), ": unknown, so what it changes is not honoured; found ", text(found),
                          " (leave it out where it changes nothing)"});
  }
  [[noreturn]] void refuse(std::string_view name, std::string_view expected, const Json& found) const {
    const bool absent = !json_.contains(name);
    fail_file(path_, {name, ": expected ", expected, ", found ", absent ? "none, which means " : "", text(found)});
  }

 private:
  static std::string text(const Json& value) {
    const std::string all = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    return all.size() <= 100 ? all : all.substr(0, 100) + "...";
  }
  // Numbers up to what rounding to fp32 changes; a list of equal values is that value.
  static bool same(const Json& expected, const Json& found) {
    if (found.is_array() && !expected.is_array())
      return !found.empty() && std::all_of(found.begin(), found.end(), [&](const Json& f) { return same(expected, f); });
    if (!expected.is_number() || !found.is_number()) return expected == found;
    const double e = expected.get<double>(), f = found.get<double>();
    return std::fabs(e - f) <= 1e-6 * std::fabs(e);
  }

  std::filesystem::path path_;
  Json json_;
  std::set<std::string, std::less<>> known_;
};

// Of one level, or of the middle: what stands where a configuration has a value for each level.
MOBILEDIFFUSION_BODY nlohmann::json at_level(const nlohmann::json& value, std::size_t level) {
  if (!value.is_array()) return value;
  return level < value.size() ? value[level] : nlohmann::json();
}

MOBILEDIFFUSION_BODY bool read_flag(const std::filesystem::path& path, std::string_view name, bool otherwise) {
  ConfigFile file(path);
  const nlohmann::json found = file.value(name, otherwise);
  if (!found.is_boolean()) file.refuse(name, "true or false", found);
  return found.get<bool>();
}

MOBILEDIFFUSION_BODY void check_unet_config(const std::filesystem::path& path, const UnetConfig& c) {
  ConfigFile file(path);
  file.expect("_class_name", {"UNet2DConditionModel", "FlaxUNet2DConditionModel"}, "UNet2DConditionModel");
  // Its attention_head_dim is the number of heads, by a mistake that became the format; one, or one for each level.
  const nlohmann::json heads = file.value("attention_head_dim", 8);
  const nlohmann::json only_cross = file.value("only_cross_attention", false);
  for (std::size_t l = 0; l < c.levels; ++l) {
    const StageConfig& s = c.stages[l];
    const auto attends = [](const TransformerConfig& t) { return t.depth > 0; };
    const auto reads_context = [](const TransformerConfig& t) { return t.depth > 0 && t.self_reads_context; };
    const bool attention = std::any_of(s.down_transformers.begin(), s.down_transformers.end(), attends) ||
                           std::any_of(s.up_transformers.begin(), s.up_transformers.end(), attends) ||
                           (l + 1 == c.levels && c.middle.resnets > 0 && attends(c.middle.transformer));
    if (!attention) continue;
    const std::size_t expected = attention_heads(c, l);
    if (at_level(heads, l) != expected) file.refuse("attention_head_dim", join({expected, " heads at level ", l}), heads);
    const bool cross = std::any_of(s.down_transformers.begin(), s.down_transformers.end(), reads_context) ||
                       std::any_of(s.up_transformers.begin(), s.up_transformers.end(), reads_context);
    const nlohmann::json found = at_level(only_cross, l);
    if ((found.is_null() ? nlohmann::json(false) : found) != cross)
      file.refuse("only_cross_attention", join({cross ? "true" : "false", " at level ", l}), only_cross);
  }
  file.expect("num_attention_heads", nullptr);
  file.expect("act_fn", {"silu", "swish"}, "silu");
  file.expect("norm_num_groups", {c.groups}, 32);
  file.expect("norm_eps", 1e-5);
  file.expect("center_input_sample", false);
  file.expect("flip_sin_to_cos", true);
  file.expect("freq_shift", 0);
  file.expect("downsample_padding", 1);
  file.expect("mid_block_scale_factor", 1);
  file.expect("dual_cross_attention", false);
  if (c.middle.resnets > 0 && c.middle.transformer.depth > 0) {  // null means the others' value if it is one for all
    const nlohmann::json middle = file.value("mid_block_only_cross_attention", nullptr);
    const bool found = middle.is_null() ? only_cross == true : middle == true;
    if (found != c.middle.transformer.self_reads_context)
      file.refuse("mid_block_only_cross_attention", c.middle.transformer.self_reads_context ? "true" : "false", middle);
  }
  file.ignore({"mid_block_only_cross_attention"});
  file.expect("resnet_time_scale_shift", "default");
  file.expect("resnet_out_scale_factor", 1.0);
  file.expect("time_embedding_type", "positional");
  file.expect("attention_type", "default");
  file.expect("dropout", 0.0);
  for (const char* off : {"class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "timestep_post_act",
                          "time_embedding_act_fn", "cross_attention_norm"})
    file.expect(off, nullptr);
  if (c.guidance_width == 0) file.expect("time_cond_proj_dim", nullptr);
  else file.expect("time_cond_proj_dim", {c.guidance_width}, nullptr);
  if (c.pooled_width == 0) file.expect("addition_embed_type", nullptr);
  else if (file.value("addition_embed_type", nullptr) == "text_time")
    file.expect("addition_time_embed_dim", {size_sinusoids}, nullptr);
  file.ignore({"addition_embed_type",
               "addition_embed_type_num_heads",
               "addition_time_embed_dim",
               "sample_size",
               "upcast_attention",
               "in_channels",
               "out_channels",
               "block_out_channels",
               "layers_per_block",
               "down_block_types",
               "up_block_types",
               "mid_block_type",
               "cross_attention_dim",
               "use_linear_projection",
               "conv_in_kernel",
               "conv_out_kernel",
               "transformer_layers_per_block",
               "reverse_transformer_layers_per_block",
               "encoder_hid_dim",
               "time_embedding_dim",
               "projection_class_embeddings_input_dim"});
  file.finish();
}

// diffusers' AutoencoderTiny; its numbers of blocks are shown by tensors.
MOBILEDIFFUSION_BODY void check_tiny_vae_config(ConfigFile& file) {
  file.expect("_class_name", "AutoencoderTiny");
  file.expect("scaling_factor", 1.0);
  file.expect("shift_factor", 0.0);
  file.expect("act_fn", "relu");
  file.expect("upsample_fn", "nearest");
  file.expect("upsampling_scaling_factor", 2);
  file.ignore({"in_channels", "out_channels", "latent_channels", "encoder_block_out_channels", "decoder_block_out_channels",
               "block_out_channels", "num_encoder_blocks", "num_decoder_blocks", "latent_magnitude", "latent_shift",
               "force_upcast"});
  file.finish();
}

MOBILEDIFFUSION_BODY void check_vae_config(const std::filesystem::path& path, const VaeConfig& c) {
  ConfigFile file(path);
  if (c.kind == VaeKind::autoencoder_tiny) return check_tiny_vae_config(file);
  file.expect("_class_name", {"AutoencoderKL", "FlaxAutoencoderKL"}, "AutoencoderKL");
  file.expect("scaling_factor", {static_cast<double>(c.scaling_millionths) / 1e6}, 0.18215);
  file.expect("shift_factor", {nullptr, 0}, nullptr);
  file.expect("latents_mean", nullptr);
  file.expect("latents_std", nullptr);
  file.expect("act_fn", {"silu", "swish"}, "silu");
  if (c.groups > 0) file.expect("norm_num_groups", {c.groups}, 32);
  file.ignore({"norm_num_groups", "sample_size", "force_upcast", "in_channels", "out_channels", "latent_channels",
               "block_out_channels", "layers_per_block", "down_block_types", "up_block_types", "use_quant_conv",
               "use_post_quant_conv", "mid_block_add_attention"});
  file.finish();
}

MOBILEDIFFUSION_BODY void check_text_encoder_config(const std::filesystem::path& path, const TextEncoderConfig& c) {
  ConfigFile file(path);
  file.expect("model_type", {"clip_text_model", "clip"}, "clip_text_model");
  file.expect("hidden_act", {name_of(c.activation)}, "quick_gelu");  // named alike
  file.expect("num_attention_heads", {c.heads}, 8);
  file.expect("layer_norm_eps", 1e-5);
}

#endif

}  // namespace detail
}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
