// SPDX-License-Identifier: Apache-2.0
// The grammars in which files of adapters name their tensors. A name is the module's, in one of several spellings, and an ending
// that says what the tensor is of it:
//   PEFT, diffusers today      unet.mid_block.attentions.0.proj_in.lora_A.weight, .lora_B.weight; also base_model.model.PATH...
//   diffusers' training        unet.PATH.lora.down.weight, text_encoder.PATH.lora_linear_layer.down.weight
//   attention processors       unet.PATH.attn1.processor.to_q_lora.down.weight (the oldest)
//   kohya, LyCORIS             lora_unet_mid_block_attentions_0_proj_in.lora_down.weight, lora_te_PATH..., each with .alpha
//   the same over LDM's names  lora_unet_middle_block_1_proj_in.lora_down.weight
// The part (unet, text_encoder) may be left out where a file adapts nothing else.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../reflect/reflect.hpp"
#include "ldm_names.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {
namespace detail {

enum class LoraRole {
  down,  // A, B and the core between them
  up,
  mid,
  bias,  // added to the module's own, with the factors' strength
  alpha,
  magnitude,   // DoRA
  difference,  // of the weight
  bias_difference,
  hada_w1_a,  // LoHa
  hada_w1_b,
  hada_w2_a,
  hada_w2_b,
  hada_t1,
  hada_t2,
  lokr_w1,  // LoKr
  lokr_w1_a,
  lokr_w1_b,
  lokr_w2,
  lokr_w2_a,
  lokr_w2_b,
  lokr_t2
};
inline constexpr std::size_t lora_roles = 21;

struct LoraEnding {
  std::string_view text;
  LoraRole role;
};
inline constexpr std::array<LoraEnding, 39> lora_endings{{{".lora_A.weight", LoraRole::down},
                                                          {".lora_B.weight", LoraRole::up},
                                                          {".lora_A.default.weight", LoraRole::down},
                                                          {".lora_B.default.weight", LoraRole::up},
                                                          {".lora.down.weight", LoraRole::down},
                                                          {".lora.up.weight", LoraRole::up},
                                                          {".lora_linear_layer.down.weight", LoraRole::down},
                                                          {".lora_linear_layer.up.weight", LoraRole::up},
                                                          {"_lora.down.weight", LoraRole::down},
                                                          {"_lora.up.weight", LoraRole::up},
                                                          {".lora_down.weight", LoraRole::down},
                                                          {".lora_up.weight", LoraRole::up},
                                                          {".lora_mid.weight", LoraRole::mid},
                                                          {".lora_B.bias", LoraRole::bias},
                                                          {".lora_B.default.bias", LoraRole::bias},
                                                          {".lora.up.bias", LoraRole::bias},
                                                          {".lora_up.bias", LoraRole::bias},
                                                          {".alpha", LoraRole::alpha},
                                                          {".dora_scale", LoraRole::magnitude},
                                                          {".lora_magnitude_vector", LoraRole::magnitude},
                                                          {".lora_magnitude_vector.weight", LoraRole::magnitude},
                                                          {".lora_magnitude_vector.default.weight", LoraRole::magnitude},
                                                          {".diff", LoraRole::difference},
                                                          {".w_norm", LoraRole::difference},
                                                          {".diff_b", LoraRole::bias_difference},
                                                          {".b_norm", LoraRole::bias_difference},
                                                          {".hada_w1_a", LoraRole::hada_w1_a},
                                                          {".hada_w1_b", LoraRole::hada_w1_b},
                                                          {".hada_w2_a", LoraRole::hada_w2_a},
                                                          {".hada_w2_b", LoraRole::hada_w2_b},
                                                          {".hada_t1", LoraRole::hada_t1},
                                                          {".hada_t2", LoraRole::hada_t2},
                                                          {".lokr_w1", LoraRole::lokr_w1},
                                                          {".lokr_w1_a", LoraRole::lokr_w1_a},
                                                          {".lokr_w1_b", LoraRole::lokr_w1_b},
                                                          {".lokr_w2", LoraRole::lokr_w2},
                                                          {".lokr_w2_a", LoraRole::lokr_w2_a},
                                                          {".lokr_w2_b", LoraRole::lokr_w2_b},
                                                          {".lokr_t2", LoraRole::lokr_t2}}};

// What a tensor's name says: the module, spelt as in the file, and the ending. Nothing where no ending fits.
struct LoraName {
  std::string_view module;
  const LoraEnding* ending;

  LoraRole role() const { return ending->role; }
  // The name of the other factor, in the same grammar; of down or up.
  std::string partner() const;
};
std::optional<LoraName> parse_lora_name(std::string_view name);

// Ways to adapt a model that share files and grammars with those that are read, by what stands in their tensors' names; null:
// none of them.
const char* other_method(std::string_view name);

// Modules by the one spelling that every grammar leads to: underscores for dots, which is what kohya's keeps.
class LoraModules {
 public:
  static constexpr std::size_t none = static_cast<std::size_t>(-1);
  struct Module {
    std::size_t weight = none, bias = none;  // which of the leafs
    bool operator==(const Module&) const = default;
  };

  // names: of the file's tensors, for the numbering of LDM's blocks, of which there are two (ldm_blocks).
  template <class Tensors>
  LoraModules(std::span<const reflect::LeafView> leafs, const Tensors& names) {
    std::map<std::string, Module> modules;
    for (std::size_t i = 0; i < leafs.size(); ++i) {
      const std::string_view path = leafs[i].path;
      for (const auto& [end, place] : {std::pair{std::string_view(".weight"), &Module::weight}, {".bias", &Module::bias}})
        if (path.ends_with(end)) modules[std::string(path.substr(0, path.size() - end.size()))].*place = i;
      has_second_text_encoder_ = has_second_text_encoder_ || path.starts_with("text_encoder_2.");
    }
    for (const auto& [path, module] : modules) {
      add(path, module);
      for (const std::string_view front : {"text_encoder.text_model.", "text_encoder_2.text_model."})
        if (path.starts_with(front)) add(std::string(front.substr(0, front.find('.') + 1)) + path.substr(front.size()), module);
    }
    std::vector<std::string_view> ldm;
    for (const auto& t : names)
      if (const auto name = parse_lora_name(t.name); name && is_ldm(name->module)) ldm.push_back(name->module);
    if (!ldm.empty()) add_ldm(modules, ldm);
  }

  bool has_second_text_encoder() const { return has_second_text_encoder_; }
  // Null where no module, or more than one, is spelt so.
  const Module* find(std::string_view name) const;

 private:
  static bool is_ldm(std::string_view module);
  static std::string underscored(std::string path);
  void add(const std::string& path, const Module& module);

  // The UNet's modules under LDM's names too, by the numbering in which all of these are found, or SD's own.
  void add_ldm(const std::map<std::string, Module>& modules, std::span<const std::string_view> wanted);

  std::map<std::string, std::optional<Module>> places_;
  bool has_second_text_encoder_ = false;
};

}  // namespace detail

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY std::string LoraName::partner() const {
  const LoraEnding& other = role() == LoraRole::down ? *(ending + 1) : *(ending - 1);
  return std::string(module) + std::string(other.text);
}

MOBILEDIFFUSION_BODY std::optional<LoraName> parse_lora_name(std::string_view name) {
  for (const LoraEnding& e : lora_endings)
    if (name.ends_with(e.text)) return LoraName{name.substr(0, name.size() - e.text.size()), &e};
  return std::nullopt;
}

MOBILEDIFFUSION_BODY const char* other_method(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, const char*>, 6> marks{
      {{".boft_", "BOFT"},
       {".oft_", "OFT"},
       {".ia3_", "(IA)^3"},
       {".lora_embedding_", "adapters of embeddings"},
       {"bundle_emb.", "textual inversion inside an adapter"},
       {".glora_", "GLoRA"}}};
  for (const auto& [mark, method] : marks)
    if (name.find(mark) != name.npos) return method;
  return nullptr;
}

MOBILEDIFFUSION_BODY const LoraModules::Module* LoraModules::find(std::string_view name) const {
  std::string module(name);
  const auto replace_front = [&](std::string_view from, std::string_view to) {
    if (module.starts_with(from)) module.replace(0, from.size(), to);
  };
  replace_front("base_model.model.", "");
  replace_front("lora_unet_", "unet.");
  replace_front("lora_te_", "text_encoder.");
  replace_front("lora_te1_", "text_encoder.");
  replace_front("lora_te2_", "text_encoder_2.");
  if (constexpr std::string_view processor = ".processor."; module.find(processor) != module.npos) {
    module.replace(module.find(processor), processor.size(), 1, '.');
    if (module.ends_with(".to_out")) module += ".0";
  }
  if (module.starts_with("text_encoder") || module.starts_with("text_model."))
    for (const auto& [unet, text] : {std::pair<std::string_view, std::string_view>{".to_q", ".q_proj"},
                                     {".to_k", ".k_proj"},
                                     {".to_v", ".v_proj"},
                                     {".to_out", ".out_proj"}})
      if (module.ends_with(unet)) module.replace(module.size() - unet.size(), unet.size(), text);
  const std::string key = underscored(std::move(module));
  for (const char* part : {"", "unet_", "text_encoder_"})
    if (const auto at = places_.find(part + key); at != places_.end()) return at->second ? &*at->second : nullptr;
  return nullptr;
}

MOBILEDIFFUSION_BODY bool LoraModules::is_ldm(std::string_view module) {
  for (const char* front : {"lora_unet_input_blocks_", "lora_unet_middle_block_", "lora_unet_output_blocks_",
                            "lora_unet_time_embed_", "lora_unet_label_emb_", "lora_unet_out_"})
    if (module.starts_with(front)) return true;
  return false;
}

MOBILEDIFFUSION_BODY std::string LoraModules::underscored(std::string path) {
  std::replace(path.begin(), path.end(), '.', '_');
  return path;
}

MOBILEDIFFUSION_BODY void LoraModules::add(const std::string& path, const Module& module) {
  const auto [at, fresh] = places_.try_emplace(underscored(path), module);
  if (!fresh && at->second != module) at->second = std::nullopt;
}

MOBILEDIFFUSION_BODY void LoraModules::add_ldm(const std::map<std::string, Module>& modules,
                                               std::span<const std::string_view> wanted) {
  constexpr std::string_view unet = "unet.", down = "unet.down_blocks.", resnets = "resnets.";
  std::size_t levels = 0, down_resnets = 0;
  for (const auto& [path, module] : modules) {
    if (!path.starts_with(down)) continue;
    const auto level = cut_number(std::string_view(path).substr(down.size()));
    if (!level) continue;
    levels = std::max(levels, level->first + 1);
    if (!level->second.starts_with(resnets)) continue;
    if (const auto resnet = cut_number(level->second.substr(resnets.size())))
      down_resnets = std::max(down_resnets, resnet->first + 1);
  }
  const auto plain = places_;
  for (const std::size_t entries : {down_resnets + 1, std::size_t{3}, down_resnets + 1}) {
    places_ = plain;
    const LdmNames translation = ldm_unet_names(ldm_blocks(levels, down_resnets, entries));
    for (const auto& [path, module] : modules) {
      if (!path.starts_with(unet)) continue;
      const std::string inner = path.substr(unet.size()), ldm = translation.to_ldm(inner);
      if (ldm == inner) continue;
      add(std::string(unet) + ldm, module);
      constexpr std::string_view sampler = ".1.conv";  // behind an attention, where the lowest level has one
      if (ldm.ends_with(sampler)) add(std::string(unet) + ldm.substr(0, ldm.size() - sampler.size()) + ".2.conv", module);
    }
    if (std::all_of(wanted.begin(), wanted.end(), [&](std::string_view name) { return find(name) != nullptr; })) return;
  }
}

}  // namespace detail

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
