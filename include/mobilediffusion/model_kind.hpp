// SPDX-License-Identifier: Apache-2.0
// What a file or folder of weights is, by the names and shapes of its tensors: which model of the Stable Diffusion family, in
// which layout, and which preset it fits; or what else it is.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/prediction.hpp"
#include "io/json.hpp"
#include "io/ldm_checkpoint.hpp"
#include "io/lora_names.hpp"
#include "io/vae_file.hpp"
#include "io/weight_files.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct ModelKind {
  enum class Layout { library_file, ldm_file, diffusers_folder, network_file };
  enum class Contents {
    model,
    unet,
    vae,
    tiny_vae,  // TAESD
    text_encoder,
    adapters,  // LoRA and its kin
    textual_inversion,
    controlnet,
    t2i_adapter,
    unknown
  };
  enum class Family { unknown, sd1, sd2, sdxl, mobilediffusion };

  Layout layout = Layout::network_file;
  Contents contents = Contents::unknown;
  Family family = Family::unknown;
  std::string name{};                      // of the model, as its authors call it: "Stable Diffusion 1.x"
  std::string storage{};                   // dtypes by their share: "F16 (99 %), F32"
  std::vector<std::string> parts{};        // of a model: unet, vae, text_encoder
  std::size_t unet_inputs = 0;             // channels: 4; 9 for inpainting; 8 for instruct-pix2pix
  bool guidance_embedding = false;         // LCM
  std::optional<Prediction> prediction{};  // what the UNet puts out; none: nothing in the files tells
  std::vector<std::string> presets{};      // that fit, as their names in namespace presets
  std::string nearest{};                   // where none fits: the one that comes near, or none
  std::string difference{};                // and what keeps it from fitting
  std::vector<std::string> ignored{};      // kinds of tensors that no network needs

  // One line.
  std::string text() const;
};

namespace detail {

// UNets that can be told from the number of their tensors and parameters.
struct KnownUnet {
  std::string_view preset;
  std::size_t tensors, parameters;
};
inline constexpr std::array<KnownUnet, 17> known_unets{
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
     {"presets::sdxl or presets::sdxl_turbo", 1680, 2'567'463'684},
     {"presets::ssd_1b", 944, 1'331'334'404},
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

// The names in "presets::a, presets::b or presets::c".
std::vector<std::string> preset_names(std::string_view text);

// How many parameters have which dtype, as a text.
class StorageCount {
 public:
  template <class Tensors>
  void add(const Tensors& tensors) {
    for (const TensorView& t : tensors) counts_[t.dtype] += t.count();
  }
  std::string text() const;

 private:
  std::map<Dtype, std::size_t> counts_;
};

using Family = ModelKind::Family;
using Contents = ModelKind::Contents;
using Layout = ModelKind::Layout;

const char* family_name(Family family);

// How the published UNets of the Stable Diffusion family are built, what those with such tensors are called, and a preset of
// theirs.
struct KnownStructure {
  std::size_t levels, resnets;  // resnets: in each level on the way down
  bool middle, top_attention;   // top_attention: at the highest resolution
  bool text_in_self;            // there, what is called self-attention reads the text
  Family family;
  std::size_t inputs;
  bool guidance;
  std::string_view name, preset;

  bool is_built_as(const KnownStructure& o) const;
};
inline constexpr std::array<KnownStructure, 14> known_structures{
    {{4, 2, true, true, false, Family::sd1, 4, false, "Stable Diffusion 1.x", "sd15"},
     {4, 2, true, true, false, Family::sd1, 9, false, "Stable Diffusion 1.x, for inpainting", "sd15_inpainting"},
     {4, 2, true, true, false, Family::sd1, 4, true, "Stable Diffusion 1.x, LCM", "lcm_dreamshaper"},
     {4, 1, true, true, false, Family::sd1, 4, false, "BK-SDM-base or small-sd", "bk_sdm_base"},
     {4, 1, false, true, false, Family::sd1, 4, false, "BK-SDM-small", "bk_sdm_small"},
     {3, 1, false, true, false, Family::sd1, 4, false, "BK-SDM-tiny or tiny-sd", "bk_sdm_tiny"},
     {3, 1, false, false, false, Family::sd1, 4, false, "SDXS-512-DreamShaper", "sdxs_512_dreamshaper"},
     {4, 2, true, true, false, Family::sd2, 4, false, "Stable Diffusion 2.x or SD-Turbo", "sd21_base"},
     {4, 2, true, true, false, Family::sd2, 9, false, "Stable Diffusion 2.x, for inpainting", "sd2_inpainting"},
     {4, 1, true, true, false, Family::sd2, 4, false, "BK-SDM-v2-base", "bk_sdm_v2_base"},
     {4, 1, false, true, false, Family::sd2, 4, false, "BK-SDM-v2-small", "bk_sdm_v2_small"},
     {3, 1, false, true, false, Family::sd2, 4, false, "BK-SDM-v2-tiny", "bk_sdm_v2_tiny"},
     {3, 1, false, true, true, Family::sd2, 4, false, "SDXS-512-0.9", "sdxs_512_09"},
     {3, 2, true, false, false, Family::sdxl, 4, false, "Stable Diffusion XL or SDXL-Turbo", "sdxl"}}};

// Fills in what a UNet tells.
void judge_unet(const WeightFiles& unet, ModelKind& kind);

// What a one-file checkpoint itself says that the UNet puts out: a mark of merges, or metadata (Stability-AI/ModelSpec).
std::optional<Prediction> stated_prediction(const SafetensorsFile& file);

ModelKind judge_file(std::shared_ptr<const SafetensorsFile> file);

}  // namespace detail

// Reads headers, and of the data a number at most. path: a file, or a folder of the diffusers layout. Throws Error for one that
// cannot be read, or a folder without a network.
ModelKind identify(const std::filesystem::path& path);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY std::string ModelKind::text() const {
  using detail::join;
  switch (contents) {
    case Contents::model:
      if (layout == Layout::library_file) return "a model of this library";
      return join(
          {layout == Layout::ldm_file ? "a one-file checkpoint of the LDM layout: " : "a folder of the diffusers layout: ",
           name.empty() ? "no known model" : name});
    case Contents::unet:
      return join({"a UNet alone", name.empty() ? "" : ": ", name});
    case Contents::vae:
      return "an autoencoder alone";
    case Contents::tiny_vae:
      return "a tiny autoencoder (TAESD) alone";
    case Contents::text_encoder:
      return join({"a text encoder alone", name.empty() ? "" : ": ", name});
    case Contents::adapters:
      return join({"adapters without a model: ", name, family == Family::unknown ? "" : ", for ", detail::family_name(family)});
    case Contents::textual_inversion:
      return join(
          {"an embedding (textual inversion): ", name, family == Family::unknown ? "" : ", for ", detail::family_name(family)});
    case Contents::controlnet:
      return "a ControlNet";
    case Contents::t2i_adapter:
      return "a T2I-Adapter";
    case Contents::unknown:
      break;
  }
  return "nothing known";
}

namespace detail {

MOBILEDIFFUSION_BODY std::vector<std::string> preset_names(std::string_view text) {
  constexpr std::string_view front = "presets::";
  std::vector<std::string> names;
  for (std::size_t at = text.find(front); at != text.npos; at = text.find(front, at)) {
    at += front.size();
    names.emplace_back(text.substr(at, std::min(text.find_first_of(", ", at), text.size()) - at));
  }
  return names;
}

MOBILEDIFFUSION_BODY std::string StorageCount::text() const {
  std::vector<std::pair<std::size_t, Dtype>> order;
  std::size_t all = 0;
  for (const auto& [dtype, count] : counts_) {
    order.emplace_back(count, dtype);
    all += count;
  }
  std::sort(order.begin(), order.end(), std::greater<>());
  std::string out;
  for (const auto& [count, dtype] : order) {
    const std::size_t percent =
        all == 0 ? 0 : static_cast<std::size_t>(100.0 * static_cast<double>(count) / static_cast<double>(all));
    out += join({out.empty() ? "" : ", ", name_of(dtype)});
    if (order.size() > 1 && percent > 0) out += join({" (", percent, " %)"});
  }
  return out;
}

MOBILEDIFFUSION_BODY Family family_of_context(std::size_t width) {
  return width == 768 ? Family::sd1 : width == 1024 ? Family::sd2 : width == 2048 ? Family::sdxl : Family::unknown;
}

MOBILEDIFFUSION_BODY const char* family_name(Family family) {
  switch (family) {
    case Family::sd1:
      return "Stable Diffusion 1.x";
    case Family::sd2:
      return "Stable Diffusion 2.x";
    case Family::sdxl:
      return "Stable Diffusion XL";
    case Family::mobilediffusion:
      return "MobileDiffusion";
    case Family::unknown:
      break;
  }
  return "";
}

MOBILEDIFFUSION_BODY bool KnownStructure::is_built_as(const KnownStructure& o) const {
  return levels == o.levels && resnets == o.resnets && middle == o.middle && top_attention == o.top_attention &&
         text_in_self == o.text_in_self && family == o.family;
}

MOBILEDIFFUSION_BODY void judge_unet(const WeightFiles& unet, ModelKind& kind) {
  KnownStructure found{};
  std::size_t context = 0;
  bool shared_kv = false;
  for (const WeightFiles::Tensor& t : unet.tensors()) {
    const std::string_view path = t.path;
    const std::size_t columns = t.shape.size() >= 2 ? t.shape[1] : 0;
    if (path == "conv_in.weight") kind.unet_inputs = columns;
    if (path == "time_embedding.cond_proj.weight") kind.guidance_embedding = true;
    if (path.starts_with("mid_block.")) found.middle = true;
    if (path.ends_with(".attn2.to_k.weight")) context = columns;
    if (path.ends_with(".to_kv.weight")) shared_kv = true;
    constexpr std::string_view down = "down_blocks.", resnets = "resnets.";
    const auto level = path.starts_with(down) ? cut_number(path.substr(down.size())) : std::nullopt;
    if (!level) continue;
    found.levels = std::max(found.levels, level->first + 1);
    if (level->first != 0) continue;
    if (level->second.starts_with("attentions.")) found.top_attention = true;
    if (path.ends_with(".attn1.to_k.weight") && !t.shape.empty() && columns != t.shape[0]) found.text_in_self = true;
    if (level->second.starts_with(resnets))
      if (const auto resnet = cut_number(level->second.substr(resnets.size())))
        found.resnets = std::max(found.resnets, resnet->first + 1);
  }
  kind.presets = preset_names(preset_of(unet.tensors()));
  kind.family = shared_kv ? Family::mobilediffusion : family_of_context(context);
  kind.name = family_name(kind.family);
  if (kind.family == Family::sd1 || kind.family == Family::sdxl) kind.prediction = Prediction::epsilon;
  found.family = kind.family;
  const auto all = known_structures.end();
  auto known = std::find_if(known_structures.begin(), all, [&](const KnownStructure& k) {
    return k.is_built_as(found) && k.inputs == kind.unet_inputs && k.guidance == kind.guidance_embedding;
  });
  const bool exact = known != all;
  if (!exact) known = std::find_if(known_structures.begin(), all, [&](const KnownStructure& k) { return k.is_built_as(found); });
  if (kind.presets == std::vector<std::string>{"ssd_1b"}) kind.name = "SSD-1B";
  else if (known != all) kind.name = known->name;
  else if (kind.family != Family::unknown && kind.family != Family::mobilediffusion) kind.name += ", an unknown variant";
  if (!kind.presets.empty()) return;
  const auto add = [](std::string& text, std::string_view what) { text += join({text.empty() ? "" : ", ", what}); };
  if (!exact && known != all) {
    if (kind.unet_inputs == 9) add(kind.name, "for inpainting");
    if (kind.unet_inputs == 8) add(kind.name, "instruct-pix2pix");
    if (kind.unet_inputs == 5) add(kind.name, "with depth");
    if (kind.guidance_embedding) add(kind.name, "LCM");
    if (kind.unet_inputs != known->inputs)
      add(kind.difference, join({kind.unet_inputs, " input channels instead of ", known->inputs}));
    if (kind.guidance_embedding) add(kind.difference, "guidance is embedded (time_embedding.cond_proj)");
  }
  if (known != all) kind.nearest = known->preset;
  if (kind.difference.empty())
    kind.difference = known == all ? "no preset is built so" : "tensors are missing, or have other shapes";
}

// What no network of this library can be made from, by its tensors' names; and single networks.
MOBILEDIFFUSION_BODY Contents contents_of(std::span<const TensorView> tensors) {
  const auto any = [&](auto&& is) {
    return std::any_of(tensors.begin(), tensors.end(), [&](const TensorView& t) { return is(std::string_view(t.name)); });
  };
  const auto front = [&](const char* text) { return any([&](std::string_view n) { return n.starts_with(text); }); };
  const auto part = [&](const char* text) { return any([&](std::string_view n) { return n.find(text) != n.npos; }); };
  for (const char* mark : {"lora_", "lora.", ".hada_w", ".lokr_w", ".oft_", ".boft_", ".ia3_"})
    if (part(mark)) return Contents::adapters;
  for (const char* mark : {"control_model.", "input_hint_block.", "controlnet_cond_embedding.", "controlnet_down_blocks."})
    if (front(mark)) return Contents::controlnet;
  for (const char* mark : {"body.0.block1.", "body.0.resnets.", "adapter.body.", "body.0.body.", "body.0.in_conv."})
    if (front(mark)) return Contents::t2i_adapter;
  for (const char* mark : {"encoder.layers.", "decoder.layers.", "encoder.1.conv.", "decoder.3.conv.", "1.conv.0.", "3.conv.0."})
    if (front(mark)) return Contents::tiny_vae;
  for (const char* mark : {"down_blocks.", "input_blocks.", "up_blocks.", "output_blocks."})
    if (front(mark)) return Contents::unet;
  if (front("decoder.conv_in.") || front("encoder.conv_in.")) return Contents::vae;
  for (const char* mark : {"text_model.", "embeddings.token_embedding.", "token_embedding.", "transformer.resblocks."})
    if (front(mark)) return Contents::text_encoder;
  const auto is_table = [](const TensorView& t) {
    constexpr std::array<std::size_t, 3> widths{768, 1024, 1280};
    return is_float(t.dtype) && (t.shape.size() == 1 || t.shape.size() == 2) && t.name.find('.') == std::string::npos &&
           std::find(widths.begin(), widths.end(), t.shape.back()) != widths.end();
  };
  if (!tensors.empty() && tensors.size() <= 2 && std::all_of(tensors.begin(), tensors.end(), is_table))
    return Contents::textual_inversion;
  return Contents::unknown;
}

// Adapters: whose names their tensors have, by which method they change matrices, and of which family those are.
MOBILEDIFFUSION_BODY void judge_adapters(std::span<const TensorView> tensors, ModelKind& kind) {
  const auto any = [&](std::initializer_list<const char*> marks) {
    return std::any_of(tensors.begin(), tensors.end(), [&](const TensorView& t) {
      return std::any_of(marks.begin(), marks.end(), [&](const char* m) { return t.name.find(m) != std::string::npos; });
    });
  };
  const char* const method = any({"dora_scale", "lora_magnitude_vector"}) ? "DoRA"
                             : any({".hada_w"})                           ? "LoHa"
                             : any({".lokr_w"})                           ? "LoKr"
                             : any({".oft_", ".boft_"})                   ? "OFT or BOFT"
                             : any({".ia3_"})                             ? "(IA)^3"
                                                                          : "LoRA";
  const char* const grammar = any({"lora_unet_input_blocks_", "lora_unet_output_blocks_", "lora_unet_middle_block_"})
                                  ? "kohya's names over those of the LDM layout"
                              : any({"lora_unet_", "lora_te_", "lora_te1_", "lora_te2_"}) ? "kohya's names"
                              : any({"base_model.model."})                                ? "PEFT's names"
                              : any({".processor."})                       ? "diffusers' names of attention processors"
                              : any({".lora_A."})                          ? "PEFT's names as diffusers writes them"
                              : any({".lora.down.", "lora_linear_layer."}) ? "diffusers' older names"
                                                                           : "unknown names";
  std::size_t least = 0, most = 0;
  const bool second = any({"lora_te2_", "text_encoder_2."});
  for (const TensorView& t : tensors) {
    const std::string_view name = t.name;
    const std::optional<LoraName> parsed = parse_lora_name(name);
    const bool down = parsed && (parsed->role() == LoraRole::down || parsed->role() == LoraRole::hada_w1_b);
    if (!down || t.shape.size() < 2) continue;
    least = least == 0 ? t.shape[0] : std::min(least, t.shape[0]);
    most = std::max(most, t.shape[0]);
    const bool reads_text = (name.find("attn2_to_k") != name.npos || name.find("attn2.to_k") != name.npos ||
                             name.find("attn2.processor.to_k") != name.npos);
    const bool of_text = name.find("self_attn_q_proj") != name.npos || name.find("self_attn.q_proj") != name.npos;
    if (reads_text) kind.family = family_of_context(t.shape[1]);
    else if (of_text && kind.family == Family::unknown) kind.family = second ? Family::sdxl : family_of_context(t.shape[1]);
  }
  kind.name = join({method, " in ", grammar});
  if (most > 0) kind.name += least == most ? join({", rank ", most}) : join({", rank ", least, " to ", most});
}

// A number that a file of training holds beside the weights, or nothing.
MOBILEDIFFUSION_BODY std::optional<std::int64_t> read_whole_number(const SafetensorsFile& file, std::string_view name) {
  const TensorView* const t = file.find(name);
  if (t == nullptr || t->count() != 1) return std::nullopt;
  if (t->dtype == Dtype::i64 || t->dtype == Dtype::i32) {
    const std::vector<std::byte> bytes = file.read_bytes(*t);
    std::int64_t value = 0;
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  if (!is_float(t->dtype)) return std::nullopt;
  float value = 0.0f;
  file.read_floats(*t, &value);
  if (!(value >= 0.0f && value < 1e9f)) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

MOBILEDIFFUSION_BODY std::optional<Prediction> stated_prediction(const SafetensorsFile& file) {
  if (file.find("v_pred") != nullptr) return Prediction::v;
  const auto at = file.metadata().find("modelspec.prediction_type");
  if (at == file.metadata().end()) return std::nullopt;
  return at->second == "v"         ? std::optional(Prediction::v)
         : at->second == "epsilon" ? std::optional(Prediction::epsilon)
                                   : std::nullopt;
}

MOBILEDIFFUSION_BODY void judge_text_encoder(const WeightFiles& text, ModelKind& kind) {
  for (const WeightFiles::Tensor& t : text.tensors())
    if (t.path.ends_with("token_embedding.weight") && t.shape.size() == 2)
      kind.family = t.shape[1] == 768 ? Family::sd1 : t.shape[1] == 1024 ? Family::sd2 : Family::unknown;
  if (kind.name.empty()) kind.name = family_name(kind.family);
}

// The tensors of a file that is one network, under their own names.
MOBILEDIFFUSION_BODY WeightFiles whole_file(std::shared_ptr<const SafetensorsFile> file) {
  std::vector<WeightFiles::Tensor> tensors;
  for (const TensorView& t : file->tensors()) tensors.push_back({t, t.name, 0});
  return {std::move(file), std::move(tensors), {}};
}

MOBILEDIFFUSION_BODY ModelKind judge_ldm(const LdmCheckpoint& checkpoint) {
  using Part = LdmPart;
  ModelKind kind{.layout = Layout::ldm_file};
  const SafetensorsFile& file = checkpoint.file();
  for (const auto& [part, name] :
       {std::pair{Part::unet, "unet"}, std::pair{Part::vae, "vae"}, std::pair{Part::text_encoder, "text_encoder"},
        std::pair{Part::text_encoder_2, "text_encoder_2"}})
    if (checkpoint.has(part)) kind.parts.emplace_back(name);
  if (checkpoint.has(Part::unet)) judge_unet(checkpoint.part(Part::unet), kind);
  else if (checkpoint.has(Part::text_encoder)) judge_text_encoder(checkpoint.part(Part::text_encoder), kind);
  const bool has_vae = checkpoint.has(Part::vae);
  kind.contents = kind.parts.size() > 1                     ? Contents::model
                  : checkpoint.has(Part::unet)              ? Contents::unet
                  : !has_vae                                ? Contents::text_encoder
                  : is_tiny_vae(checkpoint.part(Part::vae)) ? Contents::tiny_vae
                                                            : Contents::vae;
  // Training counted steps. That of 2.0 base, which predicts noise, ended at this one; diffusers goes by it too.
  if (kind.family == Family::sd2 && read_whole_number(file, "global_step") == 875000) kind.prediction = Prediction::epsilon;
  if (const auto stated = stated_prediction(file)) kind.prediction = stated;
  std::map<std::string, std::size_t> reasons;
  for (const LdmCheckpoint::Ignored& i : checkpoint.ignored()) ++reasons[i.reason];
  for (const auto& [reason, count] : reasons)
    kind.ignored.push_back(join({count, count == 1 ? " tensor: " : " tensors: ", reason}));
  if (!checkpoint.unknown().empty())
    kind.ignored.push_back(
        join({checkpoint.unknown().size(), " that are unknown, the first is ", printable(checkpoint.unknown().front()->name)}));
  return kind;
}

MOBILEDIFFUSION_BODY ModelKind judge_file(std::shared_ptr<const SafetensorsFile> file) {
  StorageCount storage;
  storage.add(file->tensors());
  ModelKind kind;
  const auto of_library = [](const auto& entry) { return entry.first.starts_with("mobilediffusion."); };
  if (std::any_of(file->metadata().begin(), file->metadata().end(), of_library)) {
    kind = {.layout = Layout::library_file, .contents = Contents::model, .name = "a model of this library"};
  } else if (const Contents contents = contents_of(file->tensors());
             contents == Contents::controlnet || !LdmCheckpoint::is_one(*file)) {
    kind.contents = contents;
    if (contents == Contents::unet) judge_unet(whole_file(file), kind);
    if (contents == Contents::text_encoder) judge_text_encoder(whole_file(file), kind);
    if (contents == Contents::adapters) judge_adapters(file->tensors(), kind);
    if (contents == Contents::textual_inversion) {
      const bool two = file->tensors().size() == 2;
      kind.family = two ? Family::sdxl : family_of_context(file->tensors()[0].shape.back());
      const auto& shape = file->tensors()[0].shape;
      const std::size_t rows = shape.size() == 2 ? shape[0] : 1;
      kind.name = join({rows, rows == 1 ? " vector" : " vectors"});
    }
  } else {
    kind = judge_ldm(LdmCheckpoint(file));
  }
  kind.storage = storage.text();
  return kind;
}

MOBILEDIFFUSION_BODY ModelKind judge_folder(const std::filesystem::path& path) {
  ModelKind kind{.layout = Layout::diffusers_folder};
  StorageCount storage;
  for (const auto& [part, stem] : {std::pair{"unet", "diffusion_pytorch_model"},
                                   {"vae", "diffusion_pytorch_model"},
                                   {"text_encoder", "model"},
                                   {"text_encoder_2", "model"}}) {
    if (!is_folder(path / part)) continue;
    kind.parts.emplace_back(part);
    const WeightFiles files(path / part, stem);
    storage.add(files.tensors());
    if (part == std::string_view("unet")) judge_unet(files, kind);
    if (part == std::string_view("text_encoder") && kind.family == Family::unknown) judge_text_encoder(files, kind);
  }
  if (kind.parts.empty())
    throw Error(join({"folder ", printable(path_text(path)), ": expected unet, vae or text_encoder in it, found none"}));
  kind.contents = kind.parts.size() > 1     ? Contents::model
                  : kind.parts[0] == "unet" ? Contents::unet
                  : kind.parts[0] == "vae"  ? Contents::vae
                                            : Contents::text_encoder;
  kind.storage = storage.text();
  if (const auto scheduler = path / "scheduler" / "scheduler_config.json"; path_exists(scheduler)) {
    const nlohmann::json json = read_json(scheduler);
    const auto field = json.find("prediction_type");
    const std::string text = field == json.end() ? "epsilon" : field->is_string() ? field->get<std::string>() : "";
    kind.prediction = text == "epsilon"        ? std::optional(Prediction::epsilon)
                      : text == "v_prediction" ? std::optional(Prediction::v)
                                               : std::nullopt;
  }
  return kind;
}

}  // namespace detail

MOBILEDIFFUSION_BODY ModelKind identify(const std::filesystem::path& path) {
  if (is_folder(path)) return detail::judge_folder(path);
  return detail::judge_file(std::make_shared<const SafetensorsFile>(path));
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
