// SPDX-License-Identifier: Apache-2.0
// The names of tensors in one-file checkpoints of the LDM layout (CompVis/stable-diffusion, Stability-AI/stablediffusion), and
// what diffusers and transformers call the same: unet, vae and text encoder stand in one file under a prefix each, blocks are
// numbered through, and the second family's text encoder has OpenCLIP's names. Pure functions of names: no files, no shapes.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "message.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {
namespace detail {

enum class LdmPart { unet, vae, text_encoder, text_encoder_2, ignored, unknown };

// Where a tensor of such a file belongs.
struct LdmTensor {
  LdmPart part = LdmPart::unknown;
  std::string_view prefix, name;  // of the network and inside it
  bool open_clip = false;         // of a text encoder: the grammar of its names
  const char* reason = nullptr;   // of what is ignored
};

LdmTensor parse_ldm_name(std::string_view name);

// A number that begins a text, and what follows the dot behind it.
std::optional<std::pair<std::size_t, std::string_view>> cut_number(std::string_view text);

// Fronts of names in both grammars, in one network.
class LdmNames {
 public:
  using Pair = std::pair<const char*, const char*>;

  void add(const std::string& ldm, const std::string& diffusers);
  void add(const std::string& ldm, const std::string& diffusers, std::span<const Pair> inner) {
    for (const auto& [there, here] : inner) add(ldm + "." + there, diffusers + "." + here);
  }

  // What no rule speaks of has the same name in both.
  std::string to_diffusers(std::string_view name) const { return translate(to_diffusers_, name); }
  std::string to_ldm(std::string_view name) const { return translate(to_ldm_, name); }

 private:
  using Fronts = std::map<std::string, std::string, std::less<>>;
  // By the longest front that ends at a dot.
  static std::string translate(const Fronts& fronts, std::string_view name);
  Fronts to_diffusers_, to_ldm_;
};

// One entry of input_blocks or output_blocks: a residual block (with the transformer behind it), a sampler, or both.
struct LdmBlock {
  std::size_t index = 0;
  bool resnet = false;
  std::string sampler{};  // its place in the entry: "0.op" on the way down, "1.conv" or "2.conv" on the way up; empty: none
};
struct LdmBlocks {
  std::vector<LdmBlock> input, output;  // in order, without the first, conv_in
};

// Of a UNet with this many residual blocks in each level on the way down, and one more on the way up, as SD numbers them. The
// script of diffusers that writes this layout keeps room for two in each level, whatever the model has: entries is then 3.
LdmBlocks ldm_blocks(std::size_t levels, std::size_t down_resnets, std::size_t entries);
// What the names of a file say: a sampler ends a level, so that holes in the numbering do not matter.
LdmBlocks ldm_blocks(std::span<const std::string_view> names);

LdmNames ldm_unet_names(const LdmBlocks& blocks);

// names: of the autoencoder's tensors. diffusers counts the decoder's levels from the latents, this layout from the picture.
// Names of diffusers stay. TAESD's own numbering, encoder.3.conv.0.weight and decoder.4.conv.0.weight, is that of a sequence; its
// decoder's begins with a layer that diffusers does not count.
LdmNames ldm_vae_names(std::span<const std::string_view> names);

// names: of the text encoder's tensors. CLIP's are transformers' own; older merges lack their first word.
LdmNames ldm_text_names(std::span<const std::string_view> names, bool open_clip);

// OpenCLIP keeps the projections of queries, keys and values in one tensor, in this order. name: in transformers' grammar, once
// translated. The three tensors' names; nothing for any other tensor.
std::optional<std::array<std::string, 3>> names_of_thirds(std::string_view name);
// The reverse: the name of the tensor of which this one is a third, or the name as it is.
std::string name_of_whole(std::string_view name);

}  // namespace detail

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY LdmTensor parse_ldm_name(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, const char*>, 24> junk{
      {{"model_ema.", "a copy of the weights averaged in training (EMA)"},
       {"first_stage_model.model_ema.", "a copy of the weights averaged in training (EMA)"},
       {"first_stage_model.loss.", "of training alone"},
       {"loss.", "of training alone"},
       {"logvar", "of training alone"},
       {"lvlb_weights", "of training alone"},
       {"embedding_manager.", "of training alone"},
       {"global_step", "of training alone"},
       {"epoch", "of training alone"},
       {"scale_factor", "a constant of the configuration"},
       {"alphas_cumprod", "the noise schedule"},
       {"betas", "the noise schedule"},
       {"sqrt_", "the noise schedule"},
       {"log_one_minus_", "the noise schedule"},
       {"posterior_", "the noise schedule"},
       {"denoiser.sigmas", "the noise schedule"},
       {"denoiser.log_sigmas", "the noise schedule"},
       {"v_pred", "a mark of what the network puts out"},
       {"ztsnr", "a mark of the noise schedule"},
       {"edm_mean", "a constant of the configuration"},
       {"edm_std", "a constant of the configuration"},
       {"cond_stage_model.logit_scale", "of CLIP's comparison with pictures"},
       {"cond_stage_model.text_projection", "of CLIP's comparison with pictures"},
       {"cond_stage_model.transformer.vision_model.", "the picture's half of CLIP"}}};
  for (const auto& [front, reason] : junk)
    if (name.starts_with(front)) return {LdmPart::ignored, "", name, false, reason};

  struct Prefix {
    std::string_view text;
    LdmPart part;
    bool open_clip = false;
  };
  static constexpr std::array<Prefix, 7> prefixes{{{"model.diffusion_model.", LdmPart::unet},
                                                   {"first_stage_model.", LdmPart::vae},
                                                   {"vae.", LdmPart::vae},
                                                   {"cond_stage_model.transformer.", LdmPart::text_encoder},
                                                   {"cond_stage_model.model.", LdmPart::text_encoder, true},
                                                   {"conditioner.embedders.0.transformer.", LdmPart::text_encoder},
                                                   {"conditioner.embedders.1.model.", LdmPart::text_encoder_2, true}}};
  LdmTensor tensor{LdmPart::unknown, "", name};
  for (const Prefix& p : prefixes)
    if (name.starts_with(p.text)) tensor = {p.part, p.text, name.substr(p.text.size()), p.open_clip, nullptr};
  if (tensor.part == LdmPart::unknown) {  // a network alone has no prefix
    for (const char* front : {"encoder.", "decoder.", "quant_conv.", "post_quant_conv."})
      if (name.starts_with(front)) tensor.part = LdmPart::vae;
    for (const char* front : {"input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out."})
      if (name.starts_with(front)) tensor.part = LdmPart::unet;
  }
  const auto ignore = [&](const char* reason) { tensor = {LdmPart::ignored, "", name, false, reason}; };
  if (tensor.part == LdmPart::text_encoder || tensor.part == LdmPart::text_encoder_2) {
    if (name.ends_with("position_ids") || name.ends_with("attn_mask")) ignore("a constant that is computed");
    else if (tensor.name == "logit_scale") ignore("of CLIP's comparison with pictures");
    else if (tensor.part == LdmPart::text_encoder && tensor.name.starts_with("text_projection"))
      ignore("of CLIP's comparison with pictures");
    else if (tensor.name.starts_with("visual.") || tensor.name.starts_with("visual_projection"))
      ignore("the picture's half of CLIP");
  }
  return tensor;
}

MOBILEDIFFUSION_BODY std::optional<std::pair<std::size_t, std::string_view>> cut_number(std::string_view text) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end == text.data() + text.size() || *end != '.' || number > 999) return std::nullopt;
  return std::pair{number, text.substr(static_cast<std::size_t>(end - text.data()) + 1)};
}

MOBILEDIFFUSION_BODY void LdmNames::add(const std::string& ldm, const std::string& diffusers) {
  to_diffusers_.emplace(ldm, diffusers);
  to_ldm_.emplace(diffusers, ldm);
}

MOBILEDIFFUSION_BODY std::string LdmNames::translate(const Fronts& fronts, std::string_view name) {
  for (std::size_t end = name.size(); end != name.npos && end != 0; end = name.rfind('.', end - 1))
    if (const auto at = fronts.find(name.substr(0, end)); at != fronts.end()) return at->second + std::string(name.substr(end));
  return std::string(name);
}

MOBILEDIFFUSION_BODY LdmBlocks ldm_blocks(std::size_t levels, std::size_t down_resnets, std::size_t entries) {
  LdmBlocks blocks;
  for (std::size_t b = 0; b < levels; ++b) {
    const bool last = b + 1 == levels;
    for (std::size_t l = 0; l < down_resnets; ++l) blocks.input.push_back({1 + b * entries + l, true});
    if (!last) blocks.input.push_back({b * entries + entries, false, "0.op"});
    for (std::size_t l = 0; l <= down_resnets; ++l) blocks.output.push_back({b * entries + l, true});
    if (last) continue;
    if (entries > down_resnets + 1) blocks.output.push_back({b * entries + entries - 1, false});
    blocks.output.back().sampler = b == 0 ? "1.conv" : "2.conv";
  }
  return blocks;
}

MOBILEDIFFUSION_BODY LdmBlocks ldm_blocks(std::span<const std::string_view> names) {
  constexpr std::string_view input = "input_blocks.", output = "output_blocks.";
  std::map<std::size_t, LdmBlock> down, up;
  for (const std::string_view name : names) {
    const bool is_down = name.starts_with(input);
    if (!is_down && !name.starts_with(output)) continue;
    const auto entry = cut_number(name.substr(is_down ? input.size() : output.size()));
    if (!entry || (is_down && entry->first == 0)) continue;
    LdmBlock& block = (is_down ? down : up)[entry->first];
    block.index = entry->first;
    const std::string_view rest = entry->second;
    if (is_down && rest.starts_with("0.op.")) block.sampler = "0.op";
    else if (!is_down && rest.size() > 7 && rest.substr(1, 6) == ".conv.") block.sampler = rest.substr(0, 6);
    else if (rest.starts_with("0.")) block.resnet = true;
  }
  LdmBlocks blocks;
  for (auto& [index, block] : down) blocks.input.push_back(std::move(block));
  for (auto& [index, block] : up) blocks.output.push_back(std::move(block));
  return blocks;
}

MOBILEDIFFUSION_BODY LdmNames ldm_unet_names(const LdmBlocks& blocks) {
  static constexpr std::array<LdmNames::Pair, 6> resnet{{{"in_layers.0", "norm1"},
                                                         {"in_layers.2", "conv1"},
                                                         {"emb_layers.1", "time_emb_proj"},
                                                         {"out_layers.0", "norm2"},
                                                         {"out_layers.3", "conv2"},
                                                         {"skip_connection", "conv_shortcut"}}};
  static constexpr std::array<LdmNames::Pair, 9> single{{{"time_embed.0", "time_embedding.linear_1"},
                                                         {"time_embed.2", "time_embedding.linear_2"},
                                                         {"time_embed.cond_proj", "time_embedding.cond_proj"},
                                                         {"label_emb.0.0", "add_embedding.linear_1"},
                                                         {"label_emb.0.2", "add_embedding.linear_2"},
                                                         {"input_blocks.0.0", "conv_in"},
                                                         {"out.0", "conv_norm_out"},
                                                         {"out.2", "conv_out"},
                                                         {"middle_block.1", "mid_block.attentions.0"}}};
  LdmNames names;
  for (const auto& [ldm, diffusers] : single) names.add(ldm, diffusers);
  names.add("middle_block.0", "mid_block.resnets.0", resnet);
  names.add("middle_block.2", "mid_block.resnets.1", resnet);
  const auto add = [&](const std::vector<LdmBlock>& list, const std::string& ldm, const std::string& diffusers,
                       const char* sampler) {
    std::size_t level = 0, place = 0;
    for (const LdmBlock& block : list) {
      const std::string there = join({ldm, ".", block.index}), here = join({diffusers, ".", level});
      if (block.resnet) {
        names.add(there + ".0", join({here, ".resnets.", place}), resnet);
        names.add(there + ".1", join({here, ".attentions.", place}));
        ++place;
      }
      if (block.sampler.empty()) continue;
      names.add(there + "." + block.sampler, here + "." + sampler + ".0.conv");
      ++level;
      place = 0;
    }
  };
  add(blocks.input, "input_blocks", "down_blocks", "downsamplers");
  add(blocks.output, "output_blocks", "up_blocks", "upsamplers");
  return names;
}

MOBILEDIFFUSION_BODY LdmNames ldm_vae_names(std::span<const std::string_view> names) {
  std::size_t levels = 0;
  std::set<std::pair<bool, std::pair<std::size_t, std::size_t>>> resnets;  // of the decoder, level, which
  for (const std::string_view name : names) {
    const bool down = name.starts_with("encoder.down."), up = name.starts_with("decoder.up.");
    if (!down && !up) continue;
    const auto level = cut_number(name.substr(down ? 13 : 11));
    if (!level) continue;
    levels = std::max(levels, level->first + 1);
    if (!level->second.starts_with("block.")) continue;
    if (const auto resnet = cut_number(level->second.substr(6))) resnets.insert({up, {level->first, resnet->first}});
  }
  LdmNames out;
  static constexpr std::array<LdmNames::Pair, 1> shortcut{{{"nin_shortcut", "conv_shortcut"}}};
  static constexpr std::array<LdmNames::Pair, 5> attention{
      {{"norm", "group_norm"}, {"q", "to_q"}, {"k", "to_k"}, {"v", "to_v"}, {"proj_out", "to_out.0"}}};
  const auto level_name = [&](bool up, std::size_t level) {
    return up ? join({"decoder.up_blocks.", levels - 1 - level}) : join({"encoder.down_blocks.", level});
  };
  for (const auto& [up, place] : resnets) {
    const std::string there = join({up ? "decoder.up." : "encoder.down.", place.first, ".block.", place.second}),
                      here = join({level_name(up, place.first), ".resnets.", place.second});
    out.add(there, here);
    out.add(there, here, shortcut);
  }
  for (std::size_t l = 0; l < levels; ++l) {
    out.add(join({"encoder.down.", l, ".downsample"}), level_name(false, l) + ".downsamplers.0");
    out.add(join({"decoder.up.", l, ".upsample"}), level_name(true, l) + ".upsamplers.0");
  }
  for (const std::string half : {"encoder.", "decoder."}) {
    const std::size_t uncounted = half == "decoder." ? 1 : 0;
    for (const std::string_view name : names)
      if (const auto layer = name.starts_with(half) ? cut_number(name.substr(half.size())) : std::nullopt)
        if (layer->first >= uncounted) out.add(join({half, layer->first}), join({half, "layers.", layer->first - uncounted}));
    if (levels == 0) continue;
    out.add(half + "norm_out", half + "conv_norm_out");
    out.add(half + "mid.block_1", half + "mid_block.resnets.0");
    out.add(half + "mid.block_2", half + "mid_block.resnets.1");
    out.add(half + "mid.attn_1", half + "mid_block.attentions.0", attention);
  }
  const auto has = [&](std::string_view front) {
    return std::any_of(names.begin(), names.end(), [&](std::string_view n) { return n.starts_with(front); });
  };
  for (const auto& [ldm, diffusers] :  // where some tools put them
       {std::pair{"encoder.quant_conv", "quant_conv"}, std::pair{"decoder.post_quant_conv", "post_quant_conv"}})
    if (has(ldm)) out.add(ldm, diffusers);
  return out;
}

MOBILEDIFFUSION_BODY LdmNames ldm_text_names(std::span<const std::string_view> names, bool open_clip) {
  LdmNames out;
  const std::string text = "text_model.";
  if (!open_clip) {
    for (const std::string front : {"embeddings", "encoder", "final_layer_norm"})
      if (std::any_of(names.begin(), names.end(), [&](std::string_view n) { return n.starts_with(front + "."); }))
        out.add(front, text + front);
    return out;
  }
  out.add("token_embedding", text + "embeddings.token_embedding");
  out.add("positional_embedding", text + "embeddings.position_embedding.weight");
  out.add("ln_final", text + "final_layer_norm");
  out.add("text_projection", "text_projection.weight");
  constexpr std::string_view blocks = "transformer.resblocks.";
  std::set<std::size_t> layers;
  for (const std::string_view name : names)
    if (const auto layer = name.starts_with(blocks) ? cut_number(name.substr(blocks.size())) : std::nullopt)
      layers.insert(layer->first);
  static constexpr std::array<LdmNames::Pair, 5> layer{{{"ln_1", "layer_norm1"},
                                                        {"ln_2", "layer_norm2"},
                                                        {"mlp.c_fc", "mlp.fc1"},
                                                        {"mlp.c_proj", "mlp.fc2"},
                                                        {"attn", "self_attn"}}};
  for (const std::size_t l : layers) out.add(join({blocks, l}), join({text, "encoder.layers.", l}), layer);
  return out;
}

MOBILEDIFFUSION_BODY std::optional<std::array<std::string, 3>> names_of_thirds(std::string_view name) {
  for (const auto& [whole, part] :
       {std::pair<std::string_view, std::string_view>{".in_proj_weight", "_proj.weight"}, {".in_proj_bias", "_proj.bias"}}) {
    if (!name.ends_with(whole)) continue;
    std::array<std::string, 3> names;
    for (std::size_t i = 0; i < 3; ++i)
      names[i] = join({name.substr(0, name.size() - whole.size()), ".", std::string_view("qkv").substr(i, 1), part});
    return names;
  }
  return std::nullopt;
}

MOBILEDIFFUSION_BODY std::string name_of_whole(std::string_view name) {
  for (const char* projection : {".q_proj.", ".k_proj.", ".v_proj."})
    if (const std::size_t at = name.find(projection); at != name.npos)
      return join({name.substr(0, at), ".in_proj_", name.substr(at + std::string_view(projection).size())});
  return std::string(name);
}

}  // namespace detail

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
