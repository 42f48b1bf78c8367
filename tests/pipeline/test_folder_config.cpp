// SPDX-License-Identifier: Apache-2.0
// The configuration files of a folder: what published ones say is accepted, what changes pictures is refused by name.
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/folder_config.hpp>
#include <mobilediffusion/scheduler_config.hpp>
#include <nlohmann/json.hpp>

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
// IDKiro/sdxs-512-0.9
const json sdxs_unet = json::parse(R"({"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.23.1", "act_fn": "silu",
    "addition_embed_type": null, "addition_embed_type_num_heads": 64, "addition_time_embed_dim": null,
    "attention_head_dim": [8, 8, 8], "attention_type": "default", "block_out_channels": [320, 640, 1280],
    "center_input_sample": false, "class_embed_type": null, "class_embeddings_concat": false, "conv_in_kernel": 3,
    "conv_out_kernel": 3, "cross_attention_dim": 1024, "cross_attention_norm": null,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "downsample_padding": 1,
    "dropout": 0.0, "dual_cross_attention": false, "encoder_hid_dim": null, "encoder_hid_dim_type": null,
    "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 1, "mid_block_only_cross_attention": null,
    "mid_block_scale_factor": 1, "mid_block_type": null, "norm_eps": 1e-05, "norm_num_groups": 32, "num_attention_heads": null,
    "num_class_embeds": null, "only_cross_attention": [true, false, false], "out_channels": 4,
    "projection_class_embeddings_input_dim": null, "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": false,
    "resnet_time_scale_shift": "default", "reverse_transformer_layers_per_block": null, "sample_size": 64,
    "time_cond_proj_dim": null, "time_embedding_act_fn": null, "time_embedding_dim": null, "time_embedding_type": "positional",
    "timestep_post_act": null, "transformer_layers_per_block": 1,
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"], "upcast_attention": null,
    "use_linear_projection": true})");
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
  CHECK(refusal(read_scheduler_config, sd15_scheduler, presets::sd15.sampler).empty());
  CHECK(refusal(read_scheduler_config, turbo_scheduler, presets::sd15.sampler).empty());
  CHECK(refusal(read_scheduler_config, with(sd15_scheduler, "prediction_type", "v_prediction"), presets::sd21.sampler).empty());
  CHECK(refusal(read_scheduler_config, with(sd15_scheduler, "_class_name", "FlaxPNDMScheduler"), presets::sd15.sampler).empty());
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
  expect(refusal(detail::check_unet_config, with(sdxs_unet, "attention_head_dim", {5, 10, 20}), presets::sdxs_512_09.unet),
         "attention_head_dim: expected 8 heads at level 0, found [5,10,20]");
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
    return refusal(read_scheduler_config, with(sd15_scheduler, field, value), presets::sd15.sampler);
  };
  const auto of_class = [&](const char* name, const char* field, const json& value) {
    return refusal(read_scheduler_config, with(with(sd15_scheduler, "_class_name", name), field, value), presets::sd15.sampler);
  };
  expect(scheduler("beta_schedule", "sigmoid"),
         "beta_schedule: expected \"linear\" or \"scaled_linear\" or \"squaredcos_cap_v2\", found \"sigmoid\"");
  expect(scheduler("beta_start", "0.1"), "beta_start: expected a number from 1e-07 to 0.999, found \"0.1\"");
  expect(scheduler("beta_end", 1.5), "beta_end: expected a number from 1e-07 to 0.999, found 1.5");
  expect(scheduler("trained_betas", {0.1, 0.2}), "trained_betas: expected null or 1000 numbers between 0 and 1, found [0.1,0.2]");
  expect(scheduler("num_train_timesteps", 500), "num_train_timesteps: expected 1000, found 500");
  expect(scheduler("thresholding", true), "thresholding: expected false, found true");
  expect(scheduler("clip_sample", true), "clip_sample: expected false, found true");
  expect(scheduler("skip_prk_steps", false), "skip_prk_steps: expected true, found false");
  expect(refusal(read_scheduler_config, without(sd15_scheduler, "skip_prk_steps"), presets::sd15.sampler),
         "skip_prk_steps: expected true, found none, which means false");
  expect(scheduler("timestep_spacing", "log"), "timestep_spacing: expected \"leading\" or \"trailing\" or \"linspace\"");
  expect(scheduler("steps_offset", -1), "steps_offset: expected a whole number from 0 to 999, found -1");
  expect(scheduler("steps_offset", 0.5), "steps_offset: expected a whole number");
  expect(scheduler("set_alpha_to_one", 1), "set_alpha_to_one: expected true or false, found 1");
  expect(scheduler("use_flow_sigmas", true), "use_flow_sigmas: expected false, found true");
  expect(scheduler("variance_type", "learned"), "variance_type: expected null, found \"learned\"");

  const json ddim = with(sd15_scheduler, "_class_name", "DDIMScheduler");
  expect(refusal(read_scheduler_config, without(ddim, "clip_sample"), presets::sd15.sampler),
         "clip_sample: expected false, found none, which means true");
  expect(of_class("DDIMScheduler", "rescale_betas_zero_snr", true),
         "rescale_betas_zero_snr: expected false with prediction_type");
  CHECK(of_class("EulerDiscreteScheduler", "rescale_betas_zero_snr", true).empty());
  CHECK(scheduler("rescale_betas_zero_snr", true).empty());  // diffusers' PNDM does not look at it
  expect(of_class("EulerDiscreteScheduler", "interpolation_type", "log_linear"), "interpolation_type: expected \"linear\"");
  expect(of_class("EulerDiscreteScheduler", "use_exponential_sigmas", true), "use_exponential_sigmas: expected false");
  expect(of_class("EulerDiscreteScheduler", "timestep_type", "continuous"), "timestep_type: expected \"discrete\"");
  expect(of_class("EulerDiscreteScheduler", "final_sigmas_type", "x"), "final_sigmas_type: expected \"zero\" or \"sigma_min\"");
  expect(of_class("DPMSolverMultistepScheduler", "algorithm_type", "dpmsolver"), "algorithm_type: expected \"dpmsolver++\"");
  expect(of_class("DPMSolverMultistepScheduler", "algorithm_type", "sde-dpmsolver++"), "algorithm_type: ");
  expect(of_class("DPMSolverMultistepScheduler", "solver_order", 4),
         "solver_order: expected a whole number from 1 to 3, found 4");
  expect(of_class("DPMSolverMultistepScheduler", "solver_type", "x"), "solver_type: expected \"midpoint\" or \"heun\"");
  expect(of_class("DPMSolverMultistepScheduler", "use_lu_lambdas", true), "use_lu_lambdas: expected false, found true");
  expect(of_class("DPMSolverMultistepScheduler", "lambda_min_clipped", -2.0),
         "lambda_min_clipped: expected null or at most -2.68");
  CHECK(of_class("DPMSolverMultistepScheduler", "lambda_min_clipped", -5.1).empty());
  expect(of_class("LCMScheduler", "original_inference_steps", 0), "original_inference_steps: expected a whole number from 1 to");

  expect(scheduler("prediction_type", "v_prediction"), "prediction_type: expected epsilon");
  expect(
      refusal(read_scheduler_config, sd15_scheduler, presets::sd21.sampler),
      "prediction_type: expected v_prediction (the configuration's `sampler.prediction`), found none, which means \"epsilon\"");
  expect(refusal(read_scheduler_config, sd15_scheduler, presets::tiny.sampler), "prediction_type: ");
  expect(refusal(read_scheduler_config, with(sd15_scheduler, "prediction_type", "v_prediction"), presets::tiny.sampler),
         "beta_schedule: expected null, found \"scaled_linear\"");
  expect(scheduler("_class_name", "FlowMatchEulerDiscreteScheduler"), "_class_name: expected a scheduler of diffusion");
  expect(scheduler("_class_name", 7), "_class_name: ");
  expect(scheduler("some_new_thing", "x"), "field \"some_new_thing\": unknown");
}

TEST_CASE("a scheduler's configuration becomes a sampler, what its class does by default included", "[pipeline]") {
  const TemporaryFolder folder;
  const auto read = [&](const json& file, const SamplerConfig& c = presets::sd15.sampler) {
    write_file(folder / "config.json", file.dump());
    return read_scheduler_config(folder / "config.json", c);
  };
  const SchedulerConfig sd15 = read(sd15_scheduler);
  CHECK(std::get<Pndm>(sd15.sampler).spacing == Spacing::leading);
  CHECK(std::get<Pndm>(sd15.sampler).offset == 1);
  CHECK(!std::get<Pndm>(sd15.sampler).alpha_to_one);
  CHECK(sd15.note.empty());
  CHECK(sd15.schedule.level(999).alpha == Approx(std::sqrt(0.004660099)).epsilon(1e-6));
  CHECK(std::get<Euler>(read(turbo_scheduler).sampler).spacing == Spacing::trailing);
  CHECK(std::get<Euler>(read(without(turbo_scheduler, "timestep_spacing")).sampler).spacing == Spacing::linspace);

  // What a file leaves out is the class's, also the betas.
  const auto bare = [&](const char* name) { return read({{"_class_name", name}, {"clip_sample", false}}); };
  CHECK(std::get<Ddim>(bare("DDIMScheduler").sampler).alpha_to_one);
  CHECK(std::get<Ddim>(bare("FlaxDDIMScheduler").sampler).spacing == Spacing::leading);
  CHECK(bare("DDIMScheduler").schedule.level(999).alpha == Approx(std::sqrt(4.0358e-5)).epsilon(1e-3));  // DDPM's own betas
  CHECK(std::get<DpmSolver>(bare("DPMSolverMultistepScheduler").sampler).order == 2);
  CHECK(std::get<Lcm>(bare("LCMScheduler").sampler).original_steps == 50);
  CHECK(bare("LCMScheduler").schedule.level(999).alpha == Approx(std::sqrt(0.004660099)).epsilon(1e-6));
  CHECK(std::holds_alternative<Tcd>(bare("TCDScheduler").sampler));
  CHECK(std::holds_alternative<EulerAncestral>(bare("EulerAncestralDiscreteScheduler").sampler));

  const json ddim = with(sd15_scheduler, "_class_name", "DDIMScheduler");
  CHECK(!std::get<Ddim>(read(ddim).sampler).alpha_to_one);
  const json zero = with(with(ddim, "rescale_betas_zero_snr", true), "prediction_type", "v_prediction");
  CHECK(read(zero, presets::sd21.sampler).schedule.level(999).alpha == 0.0);
  CHECK(read(with(ddim, "beta_schedule", "squaredcos_cap_v2")).schedule.is_squaredcos());
  const json trained = with(ddim, "trained_betas", json(std::vector<double>(1000, 0.001)));
  CHECK(read(trained).schedule.level(1).alpha == Approx(0.999));

  CHECK(std::get<Ddim>(read(without(sd15_scheduler, "_class_name")).sampler).spacing == Spacing::continuous);

  // Classes that are not here become the nearest.
  const SchedulerConfig heun = read(with(sd15_scheduler, "_class_name", "HeunDiscreteScheduler"));
  CHECK(std::get<Euler>(heun.sampler).offset == 1);
  CHECK(heun.note == "HeunDiscreteScheduler is not one of the samplers; drawn with euler");
  const SchedulerConfig unipc = read(with(with(sd15_scheduler, "_class_name", "UniPCMultistepScheduler"), "solver_type", "bh2"));
  CHECK(name_of(unipc.sampler) == "dpm++2m");
  CHECK(!unipc.note.empty());

  // As Python writes what JSON has no word for.
  std::string text = with(sd15_scheduler, "_class_name", "DPMSolverMultistepScheduler").dump();
  text.back() = ',';
  write_file(folder / "config.json", text + "\"lambda_min_clipped\": -Infinity, \"_a\": \"NaN \\\" Infinity\"}");
  CHECK(std::get<DpmSolver>(read_scheduler_config(folder / "config.json", presets::sd15.sampler).sampler).offset == 1);
  CHECK(read_json(folder / "config.json")["_a"] == "NaN \" Infinity");
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
