// SPDX-License-Identifier: Apache-2.0
// What a file or folder is, by its tensors.
#include <memory>

#include "../io/temporary_folder.hpp"
#include "catch.hpp"
#include "golden/ldm_names.hpp"
#include "mobilediffusion/model_kind.hpp"

namespace test_model_kind_cpp {

using namespace mobilediffusion;
using Contents = ModelKind::Contents;
using Family = ModelKind::Family;
using Layout = ModelKind::Layout;
using Shape = std::vector<std::size_t>;

namespace {

using Lines = std::vector<ldm_names::Line>;

// A whole UNet by its list alone: no file of gigabytes.
ModelKind unet_kind(const Lines& lines) {
  static const std::string empty = std::string("\2\0\0\0\0\0\0\0{}", 10);
  std::vector<WeightFiles::Tensor> tensors;
  for (const ldm_names::Line& line : lines) {
    std::size_t count = 1;
    for (const std::size_t d : line.shape) count *= d;
    tensors.push_back({{line.ldm, Dtype::f8_e4m3, line.shape, 0, count}, line.diffusers, 0});
  }
  ModelKind kind;
  const auto file = std::make_shared<const SafetensorsFile>(std::as_bytes(std::span(empty)), "list");
  detail::judge_unet(WeightFiles(file, tensors, {}), kind);
  return kind;
}
Lines without(Lines lines, std::string_view part) {
  std::erase_if(lines, [&](const auto& l) { return l.diffusers.find(part) != std::string::npos; });
  return lines;
}
Lines with_inputs(Lines lines, std::size_t inputs) {
  for (auto& l : lines)
    if (l.diffusers == "conv_in.weight") l.shape[1] = inputs;
  return lines;
}
Lines with_context(Lines lines, std::size_t width) {
  for (auto& l : lines)
    if (l.diffusers.find("attn2.to_k") != std::string::npos || l.diffusers.find("attn2.to_v") != std::string::npos)
      l.shape[1] = width;
  return lines;
}
Lines with(Lines lines, const std::string& name, const Shape& shape) {
  lines.push_back({name, name, shape});
  return lines;
}
const Lines& list(const char* name) { return ldm_names::list(name); }

using Tensors = std::vector<std::pair<std::string, Shape>>;
// Of 8-bit zeros.
void write(const std::filesystem::path& path, const Tensors& tensors, const Metadata& metadata = {},
           Dtype dtype = Dtype::f8_e4m3) {
  std::vector<TensorToWrite> out;
  for (const auto& [name, shape] : tensors) out.push_back({.name = name, .dtype = dtype, .shape = shape, .fill = [](auto) {}});
  write_safetensors(path, out, metadata);
}

}  // namespace

TEST_CASE("UNets are known by their structure and widths", "[pipeline][kind]") {
  const auto check = [](const Lines& lines, Family family, const char* name, std::vector<std::string> presets,
                        const char* nearest = "", const char* difference = "") {
    INFO(name);
    const ModelKind kind = unet_kind(lines);
    CHECK(kind.family == family);
    CHECK(kind.name == name);
    CHECK(kind.presets == presets);
    CHECK(kind.nearest == nearest);
    CHECK(kind.difference == difference);
    CHECK(kind.prediction.has_value() == (family == Family::sd1 || family == Family::sdxl));
  };
  check(list("sd15"), Family::sd1, "Stable Diffusion 1.x", {"sd15"});
  check(list("sd21_base"), Family::sd2, "Stable Diffusion 2.x or SD-Turbo", {"sd21_base", "sd21", "sd_turbo"});
  check(list("bk_sdm_base by script"), Family::sd1, "BK-SDM-base or small-sd", {"bk_sdm_base"});
  check(without(list("bk_sdm_base"), "mid_block"), Family::sd1, "BK-SDM-small", {"bk_sdm_small"});
  check(list("bk_sdm_tiny"), Family::sd1, "BK-SDM-tiny or tiny-sd", {"bk_sdm_tiny"});
  const Lines base2 = with_context(list("bk_sdm_base"), 1024), tiny2 = with_context(list("bk_sdm_tiny"), 1024);
  check(base2, Family::sd2, "BK-SDM-v2-base", {"bk_sdm_v2_base"});
  check(without(base2, "mid_block"), Family::sd2, "BK-SDM-v2-small", {"bk_sdm_v2_small"});
  check(tiny2, Family::sd2, "BK-SDM-v2-tiny", {"bk_sdm_v2_tiny"});
  check(without(without(list("bk_sdm_tiny"), "down_blocks.0.attentions"), "up_blocks.2.attentions"), Family::sd1,
        "SDXS-512-DreamShaper", {"sdxs_512_dreamshaper"});
  Lines sdxs = tiny2;
  for (auto& l : sdxs)
    if ((l.diffusers.find("attn1.to_k") != std::string::npos || l.diffusers.find("attn1.to_v") != std::string::npos) &&
        l.shape[0] == 320)
      l.shape[1] = 1024;
  check(sdxs, Family::sd2, "SDXS-512-0.9", {"sdxs_512_09"});
  check(with_inputs(list("sd15"), 9), Family::sd1, "Stable Diffusion 1.x, for inpainting", {"sd15_inpainting"});
  check(with_inputs(list("sd21_base"), 9), Family::sd2, "Stable Diffusion 2.x, for inpainting", {"sd2_inpainting"});
  const Lines lcm = with(list("sd15"), "time_embedding.cond_proj.weight", {320, 256});
  check(lcm, Family::sd1, "Stable Diffusion 1.x, LCM", {"lcm_dreamshaper"});

  check(list("sdxl"), Family::sdxl, "Stable Diffusion XL or SDXL-Turbo", {"sdxl", "sdxl_turbo"});
  check(with_inputs(list("sdxl"), 9), Family::sdxl, "Stable Diffusion XL or SDXL-Turbo, for inpainting", {}, "sdxl",
        "9 input channels instead of 4");
  // SSD-1B: which blocks stay of each transformer.
  Lines ssd_1b = list("sdxl");
  std::erase_if(ssd_1b, [](const auto& l) {
    const auto reduced = [&](const char* front, std::size_t blocks) {
      const std::string stack = std::string(front) + ".transformer_blocks.";
      return l.diffusers.starts_with(stack) && std::stoul(l.diffusers.substr(stack.size())) >= blocks;
    };
    for (const auto& [front, blocks] : {std::pair{"down_blocks.2.attentions.0", 4u},
                                        {"down_blocks.2.attentions.1", 4u},
                                        {"up_blocks.0.attentions.0", 4u},
                                        {"up_blocks.0.attentions.1", 4u},
                                        {"up_blocks.1.attentions.1", 1u},
                                        {"up_blocks.1.attentions.2", 1u}})
      if (reduced(front, blocks)) return true;
    return l.diffusers.starts_with("mid_block.attentions.") || l.diffusers.starts_with("mid_block.resnets.1.");
  });
  check(ssd_1b, Family::sdxl, "SSD-1B", {"ssd_1b"});

  check(with_inputs(list("sd15"), 8), Family::sd1, "Stable Diffusion 1.x, instruct-pix2pix", {}, "sd15",
        "8 input channels instead of 4");
  check(with_inputs(lcm, 9), Family::sd1, "Stable Diffusion 1.x, for inpainting, LCM", {}, "sd15",
        "9 input channels instead of 4, guidance is embedded (time_embedding.cond_proj)");
  check(with_inputs(list("sd21_base"), 5), Family::sd2, "Stable Diffusion 2.x or SD-Turbo, with depth", {}, "sd21_base",
        "5 input channels instead of 4");
  const char* none = "no preset is built so";
  check(without(list("sd15"), "conv_out.bias"), Family::sd1, "Stable Diffusion 1.x", {}, "sd15",
        "tensors are missing, or have other shapes");
  check(without(list("sd15"), "down_blocks.3"), Family::sd1, "Stable Diffusion 1.x, an unknown variant", {}, "", none);
  check(with_context(list("sd15"), 2048), Family::sdxl, "Stable Diffusion XL, an unknown variant", {}, "", none);
  check(with_context(list("sd15"), 1280), Family::unknown, "", {}, "", none);
  check({}, Family::unknown, "", {}, "", none);
  check({{"x", "down_blocks.0.attentions.0.attn1.to_k.weight", {}}, {"y", "up_blocks.0.attn2.to_kv.weight", {1, 1}}},
        Family::mobilediffusion, "MobileDiffusion", {}, "", none);
}

TEST_CASE("files say what they are", "[pipeline][kind]") {
  const TemporaryFolder folder;
  const auto path = folder / "file.safetensors";
  const auto text_of = [&](const Tensors& tensors, const Metadata& metadata = {}) {
    write(path, tensors, metadata);
    return identify(path).text();
  };
  const std::string to_k = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", unet = "model.diffusion_model.";
  const Tensors sd1{{unet + to_k, {8, 768}},
                    {unet + "input_blocks.0.0.weight", {8, 4, 3, 3}},
                    {"first_stage_model.encoder.conv_in.bias", {8}},
                    {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", {2, 768}},
                    {"model_ema.decay", {1}},
                    {"alphas_cumprod", {1}},
                    {"betas", {1}},
                    {"mystery", {1}}};
  CHECK(text_of(sd1) == "a one-file checkpoint of the LDM layout: Stable Diffusion 1.x, an unknown variant");
  const ModelKind kind = identify(path);
  CHECK(kind.layout == Layout::ldm_file);
  CHECK(kind.contents == Contents::model);
  CHECK(kind.parts == std::vector<std::string>{"unet", "vae", "text_encoder"});
  CHECK(kind.unet_inputs == 4);
  CHECK(kind.storage == "F8_E4M3");
  CHECK(kind.ignored == std::vector<std::string>{"1 tensor: a copy of the weights averaged in training (EMA)",
                                                 "2 tensors: the noise schedule",
                                                 "1 that are unknown, the first is \"mystery\""});

  // Of the second family nothing tells what it puts out, but for two marks.
  const auto prediction = [&](const char* mark, Dtype dtype, std::int64_t value) {
    std::vector<TensorToWrite> tensors{{.name = unet + to_k, .dtype = Dtype::f16, .shape = {8, 1024}, .fill = [](auto) {}}};
    if (*mark != '\0')
      tensors.push_back({.name = mark, .dtype = dtype, .shape = {}, .fill = [=](std::span<std::byte> bytes) {
                           const auto single = static_cast<float>(value);
                           if (dtype == Dtype::f32) std::memcpy(bytes.data(), &single, 4);
                           else std::memcpy(bytes.data(), &value, bytes.size());
                         }});
    write_safetensors(path, tensors);
    const ModelKind found = identify(path);
    CHECK(found.family == Family::sd2);
    return found.prediction;
  };
  CHECK(prediction("", Dtype::f32, 0) == std::nullopt);
  CHECK(prediction("global_step", Dtype::i64, 875000) == Prediction::epsilon);
  CHECK(prediction("global_step", Dtype::i32, 875000) == Prediction::epsilon);
  CHECK(prediction("global_step", Dtype::f32, 875000) == Prediction::epsilon);
  CHECK(prediction("global_step", Dtype::i64, 140000) == std::nullopt);
  CHECK(prediction("global_step", Dtype::u8, 1) == std::nullopt);
  CHECK(prediction("v_pred", Dtype::f32, 0) == Prediction::v);
  write(path, {{unet + to_k, {8, 1024}}}, {{"modelspec.prediction_type", "epsilon"}});
  CHECK(identify(path).prediction == Prediction::epsilon);

  CHECK(text_of({{to_k, {8, 768}}}) == "a UNet alone: Stable Diffusion 1.x, an unknown variant");
  CHECK(text_of({{"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", {8, 1024}}}) ==
        "a UNet alone: Stable Diffusion 2.x, an unknown variant");
  CHECK(text_of({{"decoder.conv_in.weight", {1}}}) == "an autoencoder alone");
  CHECK(text_of({{"encoder.down.0.block.0.norm1.bias", {1}}}) == "an autoencoder alone");
  for (const char* name :
       {"first_stage_model.decoder.conv_in.weight", "vae.decoder.conv_in.weight", "vae.encoder.down.0.block.0.x"})
    CHECK(text_of({{name, {1}}}) == "an autoencoder alone");
  for (const char* name :
       {"encoder.layers.0.weight", "decoder.layers.0.weight", "1.conv.0.weight", "3.conv.0.weight", "encoder.1.conv.0.bias",
        "decoder.3.conv.2.weight", "vae.decoder.3.conv.0.weight", "first_stage_model.decoder.layers.0.weight"})
    CHECK(text_of({{name, {1}}}) == "a tiny autoencoder (TAESD) alone");
  CHECK(text_of({{"text_model.embeddings.token_embedding.weight", {2, 1024}}}) == "a text encoder alone: Stable Diffusion 2.x");
  CHECK(text_of({{"cond_stage_model.model.token_embedding.weight", {2, 1024}}}) == "a text encoder alone: Stable Diffusion 2.x");
  CHECK(text_of({{"embeddings.token_embedding.weight", {2, 768}}}) == "a text encoder alone: Stable Diffusion 1.x");

  const std::string attention = "transformer_blocks_0_attn2_to_k", block = "mid_block.attentions.0.transformer_blocks.0.attn2.";
  CHECK(text_of({{"lora_unet_mid_block_attentions_0_" + attention + ".lora_down.weight", {4, 768}},
                 {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", {16, 1280, 1, 1}}}) ==
        "adapters without a model: LoRA in kohya's names, rank 4 to 16, for Stable Diffusion 1.x");
  CHECK(text_of({{"lora_unet_middle_block_1_" + attention + ".lora_down.weight", {4, 2048}}}) ==
        "adapters without a model: LoRA in kohya's names over those of the LDM layout, rank 4, for Stable Diffusion XL");
  CHECK(text_of({{"unet." + block + "processor.to_k_lora.down.weight", {4, 1024}}}) ==
        "adapters without a model: LoRA in diffusers' names of attention processors, rank 4, for Stable Diffusion 2.x");
  CHECK(text_of({{"unet." + block + "to_k.lora.down.weight", {4, 768}}}) ==
        "adapters without a model: LoRA in diffusers' older names, rank 4, for Stable Diffusion 1.x");
  CHECK(text_of({{"unet." + block + "to_k.lora_A.weight", {4, 768}}}) ==
        "adapters without a model: LoRA in PEFT's names as diffusers writes them, rank 4, for Stable Diffusion 1.x");
  CHECK(text_of({{"base_model.model." + block + "to_k.lora_A.weight", {4, 768}}}) ==
        "adapters without a model: LoRA in PEFT's names, rank 4, for Stable Diffusion 1.x");
  CHECK(text_of({{"lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", {4, 768}}, {"x.dora_scale", {1}}}) ==
        "adapters without a model: DoRA in kohya's names, rank 4, for Stable Diffusion 1.x");
  CHECK(text_of({{"lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", {4, 768}},
                 {"lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", {4, 1280}}}) ==
        "adapters without a model: LoRA in kohya's names, rank 4, for Stable Diffusion XL");
  CHECK(text_of({{"lora_unet_" + attention + ".hada_w1_b", {4, 768}}}) ==
        "adapters without a model: LoHa in kohya's names, rank 4, for Stable Diffusion 1.x");
  CHECK(text_of({{"lora_unet_x.lokr_w1", {4, 4}}}) == "adapters without a model: LoKr in kohya's names");

  CHECK(text_of({{"emb_params", {3, 768}}}) == "an embedding (textual inversion): 3 vectors, for Stable Diffusion 1.x");
  CHECK(text_of({{"<cat-toy>", {1024}}}) == "an embedding (textual inversion): 1 vector, for Stable Diffusion 2.x");
  CHECK(text_of({{"clip_g", {2, 1280}}, {"clip_l", {2, 768}}}) ==
        "an embedding (textual inversion): 2 vectors, for Stable Diffusion XL");
  for (const char* name : {"control_model.input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.bias",
                           "controlnet_down_blocks.0.weight", "input_hint_block.0.bias"})
    CHECK(text_of({{name, {1}}, {to_k, {8, 768}}}) == "a ControlNet");
  CHECK(text_of({{"body.0.block1.weight", {1}}}) == "a T2I-Adapter");
  CHECK(text_of({{"something", {1}}}) == "nothing known");
  CHECK(text_of({}) == "nothing known");
  CHECK(text_of({{"vae.encoder.conv_in.bias", {1}}}, {{"mobilediffusion.configuration", ""}}) == "a model of this library");
}

TEST_CASE("folders say what they are", "[pipeline][kind]") {
  const TemporaryFolder folder;
  const auto root = folder / "model";
  for (const char* part : {"unet", "vae", "text_encoder", "scheduler"}) std::filesystem::create_directories(root / part);
  write(root / "unet/diffusion_pytorch_model.safetensors",
        {{"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", {40, 1024}}}, {}, Dtype::f16);
  write(root / "vae/diffusion_pytorch_model.fp16.safetensors", {{"encoder.conv_in.bias", {1000}}}, {}, Dtype::f32);
  write(root / "text_encoder/model.safetensors", {{"embeddings.token_embedding.weight", {2, 1024}}});
  write_file(root / "scheduler/scheduler_config.json", R"({"prediction_type": "v_prediction"})");
  const ModelKind kind = identify(root);
  CHECK(kind.text() == "a folder of the diffusers layout: Stable Diffusion 2.x, an unknown variant");
  CHECK(kind.parts == std::vector<std::string>{"unet", "vae", "text_encoder"});
  CHECK(kind.storage == "F16 (93 %), F8_E4M3 (4 %), F32 (2 %)");
  CHECK(kind.prediction == Prediction::v);
  std::filesystem::remove_all(root / "unet");
  std::filesystem::remove_all(root / "text_encoder");
  CHECK(identify(root).text() == "an autoencoder alone");
  std::filesystem::remove_all(root / "vae");
  expect(error_of([&] { identify(root); }), "expected unet, vae or text_encoder in it, found none");
}

}  // namespace test_model_kind_cpp
