// SPDX-License-Identifier: Apache-2.0
// The grammars in which files of adapters name their tensors. A name is the matrix's, in one of several spellings, and an ending
// that says which factor it is:
//   PEFT, diffusers today      unet.mid_block.attentions.0.proj_in.lora_A.weight, .lora_B.weight; also base_model.model.PATH...
//   diffusers' training        unet.PATH.lora.down.weight, text_encoder.PATH.lora_linear_layer.down.weight
//   attention processors       unet.PATH.attn1.processor.to_q_lora.down.weight (the oldest)
//   kohya, LyCORIS             lora_unet_mid_block_attentions_0_proj_in.lora_down.weight, lora_te_PATH..., each with .alpha
// The part (unet, text_encoder) may be left out where a file adapts nothing else.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "../reflect/reflect.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {
namespace detail {

enum class LoraRole { a, b, alpha };
struct LoraEnding {
  std::string_view text;
  LoraRole role;
};
inline constexpr std::array<LoraEnding, 13> lora_endings{{{".lora_A.weight", LoraRole::a},
                                                          {".lora_B.weight", LoraRole::b},
                                                          {".lora_A.default.weight", LoraRole::a},
                                                          {".lora_B.default.weight", LoraRole::b},
                                                          {".lora.down.weight", LoraRole::a},
                                                          {".lora.up.weight", LoraRole::b},
                                                          {".lora_linear_layer.down.weight", LoraRole::a},
                                                          {".lora_linear_layer.up.weight", LoraRole::b},
                                                          {"_lora.down.weight", LoraRole::a},
                                                          {"_lora.up.weight", LoraRole::b},
                                                          {".lora_down.weight", LoraRole::a},
                                                          {".lora_up.weight", LoraRole::b},
                                                          {".alpha", LoraRole::alpha}}};

// What a tensor's name says: the matrix, spelt as in the file, and the ending. Nothing where no ending fits.
struct LoraName {
  std::string_view matrix;
  const LoraEnding* ending;

  LoraRole role() const { return ending->role; }
  // The name of the other factor, in the same grammar; of a or b.
  std::string partner() const {
    const LoraEnding& other = role() == LoraRole::a ? *(ending + 1) : *(ending - 1);
    return std::string(matrix) + std::string(other.text);
  }
};
inline std::optional<LoraName> parse_lora_name(std::string_view name) {
  for (const LoraEnding& e : lora_endings)
    if (name.ends_with(e.text)) return LoraName{name.substr(0, name.size() - e.text.size()), &e};
  return std::nullopt;
}

// Other ways to adapt a model that share files and grammars with low-rank factors, by what stands in their tensors' names; null:
// none of them.
inline const char* other_method(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, const char*>, 17> marks{
      {{".dora_scale", "DoRA"},
       {".lora_magnitude_vector", "DoRA"},
       {".hada_", "LoHa"},
       {".lokr_", "LoKr"},
       {".lora_mid.", "LoCon with a core tensor (Tucker decomposition)"},
       {".boft_", "BOFT"},
       {".oft_", "OFT"},
       {".ia3_", "(IA)^3"},
       {".w_norm", "trained norms"},
       {".b_norm", "trained norms"},
       {".lora_A.bias", "biases of adapters"},
       {".lora_B.bias", "biases of adapters"},
       {".lora_up.bias", "biases of adapters"},
       {"lora_te2_", "adapters of a second text encoder (SDXL)"},
       {"text_encoder_2.", "adapters of a second text encoder (SDXL)"},
       {"lora_unet_input_blocks_", "adapters under names of the LDM layout"},
       {"lora_unet_output_blocks_", "adapters under names of the LDM layout"}}};
  if (name.ends_with(".diff") || name.ends_with(".diff_b")) return "full differences of weights";
  for (const auto& [mark, method] : marks)
    if (name.find(mark) != name.npos) return method;
  return nullptr;
}

// Matrices by the one spelling that every grammar leads to: underscores for dots, which is what kohya's keeps.
class LoraMatrices {
 public:
  // The matrices among the leafs: linear layers and convolutions.
  explicit LoraMatrices(std::span<const reflect::LeafView> leafs) {
    constexpr std::string_view end = ".weight", text = "text_encoder.text_model.";
    for (std::size_t i = 0; i < leafs.size(); ++i) {
      std::string_view path = leafs[i].path;
      if (!leafs[i].type->is_matrix || !path.ends_with(end)) continue;
      path.remove_suffix(end.size());
      add(underscored(std::string(path)), i);
      if (path.starts_with(text)) add(underscored("text_encoder." + std::string(path.substr(text.size()))), i);
    }
  }
  // Which of the leafs; nothing where no matrix, or more than one, is spelt so.
  std::optional<std::size_t> find(const LoraName& name) const {
    std::string matrix(name.matrix);
    const auto replace_front = [&](std::string_view from, std::string_view to) {
      if (matrix.starts_with(from)) matrix.replace(0, from.size(), to);
    };
    replace_front("base_model.model.", "");
    replace_front("lora_unet_", "unet.");
    replace_front("lora_te_", "text_encoder.");
    replace_front("lora_te1_", "text_encoder.");
    if (constexpr std::string_view processor = ".processor."; matrix.find(processor) != matrix.npos) {
      matrix.replace(matrix.find(processor), processor.size(), 1, '.');
      if (matrix.ends_with(".to_out")) matrix += ".0";
    }
    if (matrix.starts_with("text_encoder.") || matrix.starts_with("text_model."))
      for (const auto& [unet, text] : {std::pair<std::string_view, std::string_view>{".to_q", ".q_proj"},
                                       {".to_k", ".k_proj"},
                                       {".to_v", ".v_proj"},
                                       {".to_out", ".out_proj"}})
        if (matrix.ends_with(unet)) matrix.replace(matrix.size() - unet.size(), unet.size(), text);
    const std::string key = underscored(std::move(matrix));
    for (const char* part : {"", "unet_", "text_encoder_"})
      if (const auto at = places_.find(part + key); at != places_.end()) return at->second;
    return std::nullopt;
  }

 private:
  static std::string underscored(std::string path) {
    for (char& c : path)
      if (c == '.') c = '_';
    return path;
  }
  void add(std::string key, std::size_t leaf) {
    const auto [at, fresh] = places_.try_emplace(std::move(key), leaf);
    if (!fresh) at->second = std::nullopt;
  }
  std::map<std::string, std::optional<std::size_t>> places_;
};

}  // namespace detail
}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
