// SPDX-License-Identifier: Apache-2.0
// The configuration files of a folder: what published ones say is accepted, what changes pictures is refused by name.
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/folder_config.hpp>

#include "../io/temporary_folder.hpp"
#include "catch.hpp"

namespace test_folder_config_cpp {

using namespace mobilediffusion;
using nlohmann::json;

namespace {

// As published with Stable Diffusion 1.5, 2.1 and SD-Turbo, and as newer releases of diffusers write them.
const json sd15_unet = json::parse(R"({"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
    "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
    "cross_attention_dim": 768, "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
    "DownBlock2D"], "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
    "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]})");
const json sd21_unet = [] {
  json j = sd15_unet;
  j["attention_head_dim"] = {5, 10, 20, 20};
  j["sample_size"] = 96;
  for (const char* off : {"class_embed_type", "num_class_embeds", "num_attention_heads", "addition_embed_type", "encoder_hid_dim",
                          "time_cond_proj_dim", "mid_block_only_cross_attention", "timestep_post_act"})
    j[off] = nullptr;
  for (const char* off : {"dual_cross_attention", "only_cross_attention", "class_embeddings_concat", "resnet_skip_time_act"})
    j[off] = false;
  j["use_linear_projection"] = j["upcast_attention"] = true;
  j["resnet_time_scale_shift"] = "default";
  j["resnet_out_scale_factor"] = 1.0;
  j["conv_in_kernel"] = 3;
  return j;
}();
const json sdxs_unet = [] {
  json j = sd21_unet;
  j["attention_head_dim"] = {5, 10, 20};
  j["only_cross_attention"] = {true, false, false};
  j["mid_block_type"] = nullptr;
  return j;
}();
const json sd_vae = json::parse(R"({"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"], "force_upcast": true, "in_channels": 3, "latent_channels": 4,
    "latents_mean": null, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": 512,
    "scaling_factor": 0.18215, "up_block_types": ["UpDecoderBlock2D"]})");
const json taesd = json::parse(R"({"_class_name": "AutoencoderTiny", "act_fn": "relu", "block_out_channels": [64, 64, 64, 64],
    "decoder_block_out_channels": [64, 64, 64, 64], "encoder_block_out_channels": [64, 64, 64, 64], "force_upcast": false,
    "in_channels": 3, "latent_channels": 4, "latent_magnitude": 3, "latent_shift": 0.5, "num_decoder_blocks": [3, 3, 3, 1],
    "num_encoder_blocks": [1, 3, 3, 3], "out_channels": 3, "scaling_factor": 1.0, "upsampling_scaling_factor": 2})");
const json sd15_text = json::parse(R"({"architectures": ["CLIPTextModel"], "hidden_act": "quick_gelu", "hidden_size": 768,
    "layer_norm_eps": 1e-05, "model_type": "clip_text_model", "num_attention_heads": 12, "torch_dtype": "float32"})");
const json sd15_scheduler = json::parse(R"({"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false,
    "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null, "clip_sample": false})");
const json turbo_scheduler = json::parse(R"({"_class_name": "EulerDiscreteScheduler", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "interpolation_type": "linear", "num_train_timesteps": 1000,
    "prediction_type": "epsilon", "set_alpha_to_one": false, "sigma_max": null, "sigma_min": null, "skip_prk_steps": true,
    "steps_offset": 1, "timestep_spacing": "trailing", "timestep_type": "discrete", "trained_betas": null,
    "use_karras_sigmas": false})");

struct Checker {
  TemporaryFolder folder;
  template <class F, class Config>
  std::string operator()(F&& check, const json& file, const Config& config) const {
    write_file(folder / "config.json", file.dump());
    const std::string error = error_of([&] { check(folder / "config.json", config); });
    if (!error.empty()) expect(error, "config.json\": ");
    return error;
  }
};
json with(json file, const char* field, const json& value) {
  file[field] = value;
  return file;
}
json without(json file, const char* field) {
  file.erase(field);
  return file;
}

}  // namespace

TEST_CASE("configurations as they are published are the presets'", "[pipeline]") {
  const Checker refusal;
  CHECK(refusal(detail::check_unet_config, sd15_unet, presets::sd15.unet).empty());
  CHECK(refusal(detail::check_unet_config, sd21_unet, presets::sd21.unet).empty());
  CHECK(refusal(detail::check_unet_config, with(sd15_unet, "attention_head_dim", {8, 8, 8, 8}), presets::sd15.unet).empty());
  CHECK(refusal(detail::check_unet_config, json::parse("{}"), presets::sd15.unet).empty());
  CHECK(refusal(detail::check_vae_config, sd_vae, presets::sd_vae).empty());
  CHECK(refusal(detail::check_vae_config, taesd, presets::taesd).empty());
  CHECK(refusal(detail::check_unet_config, with(sd15_unet, "in_channels", 9), presets::sd15_inpainting.unet).empty());
  CHECK(refusal(detail::check_unet_config, with(sd15_unet, "time_cond_proj_dim", 256), presets::lcm_dreamshaper.unet).empty());
  CHECK(refusal(detail::check_unet_config, sdxs_unet, presets::sdxs_512_09.unet).empty());
  CHECK(refusal(detail::check_vae_config, without(sd_vae, "scaling_factor"), presets::sd_vae).empty());
  CHECK(refusal(detail::check_vae_config, with(sd_vae, "scaling_factor", 0.18215f), presets::sd_vae).empty());
  CHECK(refusal(detail::check_text_encoder_config, sd15_text, presets::clip_l).empty());
  CHECK(refusal(detail::check_text_encoder_config, without(sd15_text, "hidden_act"), presets::clip_l).empty());
  CHECK(refusal(detail::check_scheduler_config, sd15_scheduler, presets::sd15.sampler).empty());
  CHECK(refusal(detail::check_scheduler_config, turbo_scheduler, presets::sd15.sampler).empty());
  CHECK(refusal(detail::check_scheduler_config, with(sd15_scheduler, "prediction_type", "v_prediction"), presets::sd21.sampler)
            .empty());
  CHECK(refusal(detail::check_scheduler_config, with(sd15_scheduler, "_class_name", "FlaxPNDMScheduler"), presets::sd15.sampler)
            .empty());
}

TEST_CASE("a UNet's configuration that contradicts the preset is refused by the field's name", "[pipeline]") {
  const Checker refusal;
  const auto unet = [&](const char* field, const json& value) {
    return refusal(detail::check_unet_config, with(sd15_unet, field, value), presets::sd15.unet);
  };
  expect(unet("attention_head_dim", 4), "attention_head_dim: expected 8 heads at level 0, found 4");
  expect(unet("attention_head_dim", {8, 8, 4, 8}), "attention_head_dim: expected 8 heads at level 2, found [8,8,4,8]");
  expect(unet("attention_head_dim", json::array({8})), "attention_head_dim: expected 8 heads at level 1, found [8]");
  expect(refusal(detail::check_unet_config, with(sd21_unet, "attention_head_dim", 8), presets::sd21.unet),
         "attention_head_dim: expected 5 heads at level 0, found 8");
  expect(refusal(detail::check_unet_config, without(sd21_unet, "attention_head_dim"), presets::sd21.unet),
         "attention_head_dim: expected 5 heads at level 0, found none, which means 8");
  expect(unet("num_attention_heads", 8), "num_attention_heads: expected null, found 8");
  expect(unet("act_fn", "gelu"), "act_fn: expected \"silu\", found \"gelu\"");
  expect(unet("norm_num_groups", 16), "norm_num_groups: expected 32, found 16");
  expect(unet("norm_eps", 1e-6), "norm_eps: expected 1e-05, found 1e-06");
  expect(unet("flip_sin_to_cos", false), "flip_sin_to_cos: expected true, found false");
  expect(unet("freq_shift", 1), "freq_shift: expected 0, found 1");
  expect(unet("center_input_sample", true), "center_input_sample: ");
  expect(unet("downsample_padding", 0), "downsample_padding: expected 1, found 0");
  expect(unet("mid_block_scale_factor", 2), "mid_block_scale_factor: ");
  expect(unet("only_cross_attention", {true, false, false, false}), "only_cross_attention: expected false at level 0");
  expect(unet("only_cross_attention", true), "only_cross_attention: expected false at level 0, found true");
  expect(unet("mid_block_only_cross_attention", true), "mid_block_only_cross_attention: expected false, found true");
  expect(refusal(detail::check_unet_config, with(sdxs_unet, "only_cross_attention", false), presets::sdxs_512_09.unet),
         "only_cross_attention: expected true at level 0, found false");
  expect(refusal(detail::check_unet_config, with(sdxs_unet, "attention_head_dim", {1, 10, 20}), presets::sdxs_512_09.unet),
         "attention_head_dim: expected 5 heads at level 0, found [1,10,20]");
  expect(refusal(detail::check_unet_config, sd15_unet, presets::lcm_dreamshaper.unet),
         "time_cond_proj_dim: expected 256, found none, which means null");
  expect(unet("resnet_time_scale_shift", "scale_shift"), "resnet_time_scale_shift: ");
  expect(unet("time_cond_proj_dim", 256), "time_cond_proj_dim: expected null, found 256");
  expect(unet("_class_name", "UNet2DModel"), "_class_name: expected \"UNet2DConditionModel\", found \"UNet2DModel\"");
  expect(unet("some_new_thing", 3), "field \"some_new_thing\": unknown, so what it changes is not honoured; found 3");
  CHECK(unet("some_new_thing", nullptr).empty());
  CHECK(unet("some_new_thing", false).empty());
}

TEST_CASE("the other networks' configurations that contradict the preset are refused by the field's name", "[pipeline]") {
  const Checker refusal;
  const auto vae = [&](const char* field, const json& value) {
    return refusal(detail::check_vae_config, with(sd_vae, field, value), presets::sd_vae);
  };
  expect(vae("scaling_factor", 0.13025), "scaling_factor: expected 0.18215, found 0.13025");
  expect(vae("shift_factor", 0.1159), "shift_factor: expected null, found 0.1159");
  expect(vae("latents_mean", {1, 2}), "latents_mean: expected null, found [1,2]");
  expect(vae("norm_num_groups", 8), "norm_num_groups: expected 32, found 8");
  expect(vae("act_fn", "relu"), "act_fn: ");
  expect(vae("_class_name", "AutoencoderTiny"), "_class_name: expected \"AutoencoderKL\", found \"AutoencoderTiny\"");
  expect(refusal(detail::check_vae_config, without(sd_vae, "scaling_factor"), presets::tiny.vae),
         "scaling_factor: expected 1.0, found none, which means 0.18215");

  expect(refusal(detail::check_vae_config, sd_vae, presets::taesd),
         "_class_name: expected \"AutoencoderTiny\", found \"AutoencoderKL\"");
  expect(refusal(detail::check_vae_config, with(taesd, "scaling_factor", 0.18215), presets::taesd), "scaling_factor: ");
  expect(refusal(detail::check_vae_config, with(taesd, "act_fn", "silu"), presets::taesd), "act_fn: expected \"relu\"");

  const auto text = [&](const char* field, const json& value) {
    return refusal(detail::check_text_encoder_config, with(sd15_text, field, value), presets::clip_l);
  };
  expect(text("num_attention_heads", 16), "num_attention_heads: expected 12, found 16");
  expect(text("hidden_act", "gelu"), "hidden_act: expected \"quick_gelu\", found \"gelu\"");
  expect(text("layer_norm_eps", 1e-12), "layer_norm_eps: expected 1e-05, found 1e-12");
  expect(text("model_type", "t5"), "model_type: expected \"clip_text_model\", found \"t5\"");
  expect(refusal(detail::check_text_encoder_config, without(sd15_text, "num_attention_heads"), presets::clip_l),
         "num_attention_heads: expected 12, found none, which means 8");
  expect(refusal(detail::check_text_encoder_config, sd15_text, presets::sd21.text), "hidden_act: expected \"gelu\"");
  CHECK(text("some_new_thing", 3).empty());
}

TEST_CASE("a scheduler that means other pictures is refused by the field's name", "[pipeline]") {
  const Checker refusal;
  const auto scheduler = [&](const char* field, const json& value) {
    return refusal(detail::check_scheduler_config, with(sd15_scheduler, field, value), presets::sd15.sampler);
  };
  const auto lacking = [&](const char* field) {
    return refusal(detail::check_scheduler_config, without(sd15_scheduler, field), presets::sd15.sampler);
  };
  expect(scheduler("rescale_betas_zero_snr", true), "rescale_betas_zero_snr: expected false, found true");
  expect(scheduler("beta_schedule", "linear"), "beta_schedule: expected \"scaled_linear\", found \"linear\"");
  expect(scheduler("beta_schedule", "squaredcos_cap_v2"), "beta_schedule: ");
  expect(scheduler("beta_start", 0.0001), "beta_start: expected 0.00085, found 0.0001");
  expect(scheduler("beta_end", 0.02), "beta_end: expected 0.012, found 0.02");
  expect(lacking("beta_schedule"), "beta_schedule: expected \"scaled_linear\", found none, which means \"linear\"");
  expect(lacking("beta_start"), "beta_start: expected 0.00085, found none, which means 0.0001");
  expect(lacking("beta_end"), "beta_end: expected 0.012, found none, which means 0.02");
  expect(scheduler("trained_betas", {0.1, 0.2}), "trained_betas: expected null, found [0.1,0.2]");
  expect(scheduler("num_train_timesteps", 500), "num_train_timesteps: expected 1000, found 500");
  expect(scheduler("thresholding", true), "thresholding: expected false, found true");
  expect(scheduler("clip_sample", true), "clip_sample: expected false, found true");
  CHECK(lacking("clip_sample").empty());
  const json ddim = with(sd15_scheduler, "_class_name", "DDIMScheduler");
  CHECK(refusal(detail::check_scheduler_config, ddim, presets::sd15.sampler).empty());
  expect(refusal(detail::check_scheduler_config, without(ddim, "clip_sample"), presets::sd15.sampler),
         "clip_sample: expected false, found none, which means true");
  expect(scheduler("prediction_type", "v_prediction"), "prediction_type: expected epsilon");
  expect(
      refusal(detail::check_scheduler_config, sd15_scheduler, presets::sd21.sampler),
      "prediction_type: expected v_prediction (the configuration's `sampler.prediction`), found none, which means \"epsilon\"");
  expect(refusal(detail::check_scheduler_config, sd15_scheduler, presets::tiny.sampler), "prediction_type: ");
  expect(refusal(detail::check_scheduler_config, with(sd15_scheduler, "prediction_type", "v_prediction"), presets::tiny.sampler),
         "beta_schedule: expected null, found \"scaled_linear\"");
  expect(scheduler("_class_name", "LCMScheduler"), "_class_name: expected the scheduler of a model that DDIM draws with");
  expect(scheduler("_class_name", "FlowMatchEulerDiscreteScheduler"), "_class_name: expected a scheduler of diffusion");
  expect(scheduler("_class_name", 7), "_class_name: ");
  expect(scheduler("some_new_thing", "x"), "field \"some_new_thing\": unknown");
  CHECK(scheduler("timestep_spacing", "leading").empty());
  CHECK(scheduler("use_karras_sigmas", true).empty());
}

TEST_CASE("configurations are bounded: bytes, depth, values", "[pipeline]") {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& text, std::size_t limit = JsonLimits::config_bytes) {
    write_file(folder / "config.json", text);
    return error_of([&] { read_json(folder / "config.json", limit); });
  };
  CHECK(error("{\"a\": " + std::string(60, '[') + std::string(60, ']') + "}").empty());
  expect(error("{\"a\": " + std::string(100'000, '[')), "config.json\": expected at most 64 levels of JSON, found more");
  std::string deep;
  for (int i = 0; i < 70; ++i) deep += "{\"a\":";
  expect(error(deep), "expected at most 64 levels");
  expect(error(std::string(2 << 20, ' ')), "2097152 bytes, at most 1048576 are expected");
  std::string wide = "{\"a\": [0";
  for (std::size_t i = 0; i < JsonLimits::values; ++i) wide += ",0";
  expect(error(wide + "]}", JsonLimits::index_bytes), "config.json\": expected at most 4000000 values of JSON, found more");
  for (const char* text : {"", "[]", "{", "{\"a\"}", "{} {}", "3"}) expect(error(text), "expected a JSON object");
}

}  // namespace test_folder_config_cpp
