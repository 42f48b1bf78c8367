// SPDX-License-Identifier: Apache-2.0
// The names of one-file checkpoints against lists that the layout's own code and diffusers made (twin/ldm_names.py), and against
// the presets.
#include <map>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/io/ldm_checkpoint.hpp>
#include <mobilediffusion/models/text_encoder.hpp>
#include <mobilediffusion/models/unet.hpp>
#include <mobilediffusion/models/vae.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golden/ldm_names.hpp"

namespace test_ldm_names_cpp {

using namespace mobilediffusion;
using detail::LdmPart;
using ldm_names::Line, ldm_names::list;

namespace {

using Shapes = std::map<std::string, std::vector<std::size_t>>;

std::vector<std::size_t> without_ones(std::vector<std::size_t> shape) {
  while (!shape.empty() && shape.back() == 1) shape.pop_back();
  return shape;
}
template <class Weights>
Shapes shapes_of_model() {
  Shapes out;
  Weights weights{};
  for (const reflect::LeafView& leaf : reflect::leafs(weights))
    out[leaf.path] = without_ones({leaf.type->file_shape.begin(), leaf.type->file_shape.end()});
  return out;
}

// Without the prefix of their network.
std::vector<std::string_view> inner_names(const std::vector<Line>& lines, LdmPart part) {
  std::vector<std::string_view> names;
  for (const Line& line : lines) {
    const detail::LdmTensor parsed = detail::parse_ldm_name(line.ldm);
    if (parsed.part == part) names.push_back(parsed.name);
    else CHECK(parsed.part == LdmPart::ignored);
  }
  return names;
}

// Every name leads to diffusers' and back; together they are the model. The script of diffusers leaves a name as it is where
// Stable Diffusion has no such block: a transformer at the lowest resolution.
void check_names(const std::vector<Line>& lines, const detail::LdmNames& names, const Shapes& model) {
  Shapes found;
  std::vector<std::string> wrong;
  for (const Line& line : lines) {
    const detail::LdmTensor parsed = detail::parse_ldm_name(line.ldm);
    if (parsed.part == LdmPart::ignored) continue;
    std::vector<std::string> paths{names.to_diffusers(parsed.name)};
    if (const auto thirds = detail::names_of_thirds(paths[0])) paths.assign(thirds->begin(), thirds->end());
    const bool is_third = paths.size() == 3;
    if (std::find(paths.begin(), paths.end(), line.diffusers) == paths.end()) wrong.push_back(line.ldm + " is " + paths[0]);
    const std::string back =
        std::string(parsed.prefix) + names.to_ldm(is_third ? detail::name_of_whole(line.diffusers) : line.diffusers);
    if (back != line.ldm && parsed.name != line.diffusers) wrong.push_back(line.diffusers + " is " + back);
    if (!found.emplace(line.diffusers, without_ones(line.shape)).second) wrong.push_back(line.diffusers + " twice");
  }
  CHECK(wrong == std::vector<std::string>{});
  CHECK(found.size() == model.size());
  CHECK((found == model));
}
template <class Weights>
void check_unet(const std::vector<Line>& lines) {
  const auto names = inner_names(lines, LdmPart::unet);
  check_names(lines, detail::ldm_unet_names(detail::ldm_blocks(names)), shapes_of_model<Weights>());
}

std::vector<Line> without_middle(std::vector<Line> lines) {
  std::erase_if(lines, [](const Line& l) { return l.ldm.find(".middle_block.") != std::string::npos; });
  return lines;
}

}  // namespace

TEST_CASE("names of the LDM layout are those of the presets' UNets, however blocks are numbered", "[io][names]") {
  CHECK(list("sd15").size() == 686);
  check_unet<Unet<presets::sd15.unet>::Weights>(list("sd15"));
  check_unet<Unet<presets::sd21_base.unet>::Weights>(list("sd21_base"));
  for (const char* script : {"", " by script"}) {
    const auto& base = list(std::string("bk_sdm_base") + script);
    CHECK(base.size() == 442);
    check_unet<Unet<presets::bk_sdm_base.unet>::Weights>(base);
    check_unet<Unet<presets::bk_sdm_small.unet>::Weights>(without_middle(base));
    check_unet<Unet<presets::bk_sdm_tiny.unet>::Weights>(list(std::string("bk_sdm_tiny") + script));
  }
  CHECK(list("sdxl").size() == 1680);
  check_unet<Unet<presets::sdxl_unet>::Weights>(list("sdxl"));
}

TEST_CASE("blocks numbered by a configuration are those that the names show", "[io][names]") {
  const auto check = [](const char* section, std::size_t levels, std::size_t resnets, std::size_t entries) {
    const auto& lines = list(section);
    const detail::LdmNames by_names = detail::ldm_unet_names(detail::ldm_blocks(inner_names(lines, LdmPart::unet))),
                           by_numbers = detail::ldm_unet_names(detail::ldm_blocks(levels, resnets, entries));
    for (const Line& line : lines) {
      const std::string name(detail::parse_ldm_name(line.ldm).name);
      CHECK(by_numbers.to_diffusers(name) == by_names.to_diffusers(name));
      if (name != line.diffusers) CHECK(by_numbers.to_ldm(line.diffusers) == name);
    }
  };
  check("sd15", 4, 2, 3);
  check("bk_sdm_base", 4, 1, 2);
  check("bk_sdm_base by script", 4, 1, 3);
  check("bk_sdm_tiny by script", 3, 1, 3);
}

TEST_CASE("names of the LDM layout are those of the autoencoder and both text encoders", "[io][names]") {
  const auto& vae = list("vae");
  CHECK(vae.size() == 248);
  check_names(vae, detail::ldm_vae_names(inner_names(vae, LdmPart::vae)), shapes_of_model<Vae<presets::sd15.vae>::Weights>());

  // OpenCLIP's last layer is there too, which no model reads.
  std::vector<Line> text = list("open_clip");
  CHECK(std::erase_if(text, [](const Line& l) { return l.diffusers == "-"; }) == 14);
  check_names(text, detail::ldm_text_names(inner_names(text, LdmPart::text_encoder), true),
              shapes_of_model<TextEncoder<presets::sd21.text>::Weights>());

  // Of Stable Diffusion XL's second one, every layer, and the projection, whose matrix is transposed there.
  const auto& second = list("sdxl open_clip");
  check_names(second, detail::ldm_text_names(inner_names(second, LdmPart::text_encoder_2), true),
              shapes_of_model<TextEncoder<presets::sdxl_text_2>::Weights>());

  // CLIP's are transformers' own, and old merges lack their first word.
  const Shapes clip = shapes_of_model<TextEncoder<presets::sd15.text>::Weights>();
  for (const bool short_names : {false, true}) {
    std::vector<Line> lines;
    for (const auto& [path, shape] : clip)
      lines.push_back({"cond_stage_model.transformer." + (short_names ? path.substr(11) : path), path, shape});
    check_names(lines, detail::ldm_text_names(inner_names(lines, LdmPart::text_encoder), false), clip);
  }
}

TEST_CASE("what a checkpoint carries besides is known with its reason", "[io][names]") {
  for (const char* name : {"model_ema.diffusion_modelinput_blocks00weight",
                           "model_ema.decay",
                           "alphas_cumprod",
                           "alphas_cumprod_prev",
                           "betas",
                           "sqrt_one_minus_alphas_cumprod",
                           "log_one_minus_alphas_cumprod",
                           "posterior_mean_coef1",
                           "scale_factor",
                           "global_step",
                           "first_stage_model.loss.logvar",
                           "first_stage_model.model_ema.num_updates",
                           "denoiser.sigmas",
                           "v_pred",
                           "ztsnr",
                           "embedding_manager.embedder.weight",
                           "cond_stage_model.transformer.text_model.embeddings.position_ids",
                           "cond_stage_model.model.logit_scale",
                           "cond_stage_model.model.text_projection",
                           "cond_stage_model.model.attn_mask",
                           "cond_stage_model.model.visual.proj",
                           "cond_stage_model.logit_scale"}) {
    INFO(name);
    const detail::LdmTensor parsed = detail::parse_ldm_name(name);
    CHECK(parsed.part == LdmPart::ignored);
    CHECK(parsed.reason != nullptr);
  }
  for (const char* name : {"lora_unet_x", "unet.conv_in.weight", "model.diffusion", "", ".", "control_model.time_embed.0.weight"})
    CHECK(detail::parse_ldm_name(name).part == LdmPart::unknown);
  CHECK(detail::parse_ldm_name("vae.encoder.conv_in.bias").part == LdmPart::vae);
  CHECK(detail::parse_ldm_name("conditioner.embedders.1.model.text_projection").part == LdmPart::text_encoder_2);
  // Some tools put these into the halves.
  const std::vector<std::string_view> names{"encoder.quant_conv.weight", "decoder.post_quant_conv.bias"};
  const detail::LdmNames vae = detail::ldm_vae_names(names);
  CHECK(vae.to_diffusers("encoder.quant_conv.weight") == "quant_conv.weight");
  CHECK(vae.to_diffusers("decoder.post_quant_conv.bias") == "post_quant_conv.bias");
  CHECK(vae.to_ldm("quant_conv.weight") == "encoder.quant_conv.weight");
}

}  // namespace test_ldm_names_cpp
