// SPDX-License-Identifier: Apache-2.0
// One-file checkpoints of the LDM layout, in every storage.
#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mobilediffusion/io/ldm_names.hpp"
#include "mobilediffusion/model_source.hpp"
#include "model_files.hpp"

namespace ldm_files {

using namespace mobilediffusion;
using model_files::Tensors;

inline std::vector<float> floats_of(const TensorToWrite& t) {
  std::vector<float> out(t.floats.begin(), t.floats.end());
  if (!t.fill) return out;
  std::size_t count = 1;
  for (const std::size_t d : t.shape) count *= d;
  out.resize(count);
  t.fill(std::as_writable_bytes(std::span(out)));
  return out;
}

// Also as 8-bit floats, which the library does not write: the nearest.
inline TensorToWrite stored(std::string name, std::vector<std::size_t> shape, std::vector<float> values, Dtype dtype) {
  TensorToWrite t{.name = std::move(name), .dtype = dtype, .shape = std::move(shape)};
  t.fill = [values = std::move(values), dtype](std::span<std::byte> bytes) {
    if (size_of(dtype) > 1) return convert_from_floats(dtype, values, bytes);
    for (std::size_t i = 0; i < values.size(); ++i) {
      float best = std::numeric_limits<float>::infinity();
      for (unsigned code = 0; code < 256; ++code) {
        const auto byte = static_cast<std::byte>(code);
        float x = 0.0f;
        convert_to_floats(dtype, std::span(&byte, 1), &x);
        if (!(std::abs(x - values[i]) < best)) continue;
        best = std::abs(x - values[i]);
        bytes[i] = byte;
      }
    }
  };
  return t;
}

enum class Text { clip, clip_without_prefix, open_clip };
struct Layout {
  Text text = Text::clip;
  std::size_t entries = 2;  // of input_blocks in each level; 3 leaves holes, as diffusers' script does
};

inline void add_open_clip(Tensors& out, const Tensors& network, const std::string& prefix, Dtype dtype) {
  const std::vector<std::string_view> layers{"transformer.resblocks.0.x", "transformer.resblocks.1.x",
                                             "transformer.resblocks.2.x"};
  const detail::LdmNames names = detail::ldm_text_names(layers, true);
  std::map<std::string, std::array<std::vector<float>, 3>> thirds;
  std::map<std::string, std::vector<std::size_t>> shapes;
  for (const TensorToWrite& t : network) {
    const std::string whole = detail::name_of_whole(t.name), name = prefix + names.to_ldm(whole);
    std::vector<float> values = floats_of(t);
    if (t.name == "text_projection.weight") {  // [width][projection] there
      const std::size_t rows = t.shape[0], columns = t.shape[1];
      std::vector<float> transposed(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) transposed[i % columns * rows + i / columns] = values[i];
      out.push_back(stored(name, {columns, rows}, std::move(transposed), dtype));
      continue;
    }
    if (whole == t.name) {
      out.push_back(stored(name, t.shape, std::move(values), dtype));
      continue;
    }
    thirds[name][std::string_view("qkv").find(t.name[t.name.find("_proj.") - 1])] = std::move(values);
    shapes[name] = t.shape;
  }
  for (auto& [name, parts] : thirds) {
    std::vector<float> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    shapes[name][0] *= 3;
    out.push_back(stored(name, shapes[name], std::move(all), dtype));
  }
}
inline void add_text_encoder(Tensors& out, const Tensors& network, Text text, Dtype dtype,
                             const std::string& prefix = "cond_stage_model.transformer.") {
  if (text != Text::open_clip) {
    for (const TensorToWrite& t : network)
      out.push_back(stored(prefix + (text == Text::clip ? t.name : t.name.substr(11)), t.shape, floats_of(t), dtype));
    return;
  }
  add_open_clip(out, network, "cond_stage_model.model.", dtype);
  // What is there and not read: the layer after the last one, and CLIP's own.
  for (const char* name :
       {"transformer.resblocks.2.attn.in_proj_weight", "transformer.resblocks.2.ln_1.bias", "text_projection", "logit_scale"})
    out.push_back(stored(std::string("cond_stage_model.model.") + name, {3}, {1, 2, 3}, dtype));
}

// The whole file, with what such files hold besides.
template <ModelConfig M>
Tensors checkpoint_of(const ModelWeights<M>& weights, Layout layout = {}, Dtype dtype = Dtype::f32) {
  Tensors unet, vae, text, out;
  list_weights(unet, "", weights.unet, Dtype::f32);
  list_weights(vae, "", weights.vae, Dtype::f32);
  list_weights(text, "", weights.text_encoder, Dtype::f32);
  detail::LdmBlocks unet_blocks = detail::ldm_blocks(M.unet.levels, M.unet.stages[0].down_resnets, layout.entries);
  if (M.unet.stages[M.unet.levels - 1].up_transformers[0].depth > 0)  // as in Stable Diffusion XL
    for (detail::LdmBlock& b : unet_blocks.output)
      if (b.sampler == "1.conv") b.sampler = "2.conv";
  const detail::LdmNames unet_names = detail::ldm_unet_names(unet_blocks);
  for (const TensorToWrite& t : unet)
    out.push_back(stored("model.diffusion_model." + unet_names.to_ldm(t.name), t.shape, floats_of(t), dtype));
  std::vector<std::string> blocks;
  for (std::size_t l = 0; l < M.vae.levels; ++l) {
    for (std::size_t i = 0; i < M.vae.encoder_resnets; ++i)
      blocks.push_back(detail::join({"encoder.down.", l, ".block.", i, ".x"}));
    for (std::size_t i = 0; i < M.vae.decoder_resnets; ++i)
      blocks.push_back(detail::join({"decoder.up.", l, ".block.", i, ".x"}));
  }
  const detail::LdmNames vae_names = detail::ldm_vae_names(std::vector<std::string_view>(blocks.begin(), blocks.end()));
  for (const TensorToWrite& t : vae) {
    std::vector<std::size_t> shape = t.shape;
    if (t.name.find(".attentions.") != std::string::npos && shape.size() == 2) shape.resize(4, 1);
    out.push_back(stored("first_stage_model." + vae_names.to_ldm(t.name), shape, floats_of(t), dtype));
  }
  if constexpr (is_present(M.text_2)) {
    Tensors second;
    list_weights(second, "", weights.text_encoder_2, Dtype::f32);
    add_text_encoder(out, text, layout.text, dtype, "conditioner.embedders.0.transformer.");
    add_open_clip(out, second, "conditioner.embedders.1.model.", dtype);
    out.push_back(stored("conditioner.embedders.1.model.logit_scale", {}, {1}, dtype));
  } else {
    add_text_encoder(out, text, layout.text, dtype);
  }
  out.push_back({.name = "alphas_cumprod", .dtype = Dtype::f64, .shape = {4}, .fill = [](auto) {}});
  out.push_back(stored("model_ema.diffusion_modelinput_blocks00bias", {8}, std::vector<float>(8), Dtype::f32));
  out.push_back({.name = "cond_stage_model.transformer.text_model.embeddings.position_ids",
                 .dtype = Dtype::i64,
                 .shape = {1, 7},
                 .fill = [](auto) {}});
  return out;
}

}  // namespace ldm_files
