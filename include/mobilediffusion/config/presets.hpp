// SPDX-License-Identifier: Apache-2.0
// Architectures by name. A preset is a whole model: presets::emoji.unet, .vae, .text, .sampler.
#pragma once

#include "../core/begin.hpp"

#include "config.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::presets {

inline constexpr TransformerConfig none{};
inline constexpr TransformerConfig cross_only(std::size_t depth) { return {.depth = depth, .self_attention = false}; }
inline constexpr TransformerConfig full_blocks(std::size_t depth) { return {.depth = depth}; }

// Three resolutions of 64x64 latents; separable_everywhere: else at the lowest resolution only (first convolution of a block).
constexpr UnetConfig mobile_unet(std::size_t width, std::size_t depth, bool separable_everywhere) {
  const SeparableConfig first{.conv1 = true}, high{.conv1 = separable_everywhere};
  return {.latent_channels = 8,
          .stages = {StageConfig{.channels = 320, .separable = high},
                     StageConfig{.channels = 640,
                                 .down_transformers = {cross_only(1)},
                                 .up_transformers = {cross_only(1)},
                                 .separable = high},
                     StageConfig{.channels = width,
                                 .down_transformers = {full_blocks(depth)},
                                 .up_transformers = {full_blocks(depth), cross_only(1)},
                                 .separable = first}},
          .middle = {.transformer = full_blocks(depth), .separable = first}};
}

// Stable Diffusion's autoencoder, one half as wide, and one whose decoder is narrow where pictures are large: 10 million
// parameters and 129 GMACs at 512x512, half of what the half-width decoder costs. Its last norms have one channel a group, which
// forgets flat colours: train light_vae instead.
inline constexpr VaeConfig sd_vae{};
inline constexpr VaeConfig sdxl_vae{.height = 1024, .width = 1024, .scaling_millionths = 130'250};
inline constexpr VaeConfig half_vae{
    .latent_channels = 8, .encoder_channels = {64, 128, 256, 256}, .decoder_channels = {64, 128, 256, 256}, .decoder_resnets = 2};
inline constexpr VaeConfig tapered_vae{
    .latent_channels = 8, .encoder_channels = {64, 128, 256, 256}, .decoder_channels = {32, 64, 160, 320}, .decoder_resnets = 2};
// The same encoder, and so the same latents, with a decoder of 2.9 million parameters and 33 GMACs: no middle, no norms, one
// block a level, and depth to space for the last doubling. bench/README.md has the ablation that it comes from.
inline constexpr VaeConfig light_vae{.latent_channels = 8,
                                     .decoder_patch = 2,
                                     .encoder_channels = {64, 128, 256, 256},
                                     .decoder_channels = {64, 160, 320},
                                     .decoder_resnets = 1,
                                     .decoder_middle = false,
                                     .separable_samplers = true,
                                     .decoder_norms = false};

// TAESD (github.com/madebyollin/taesd): 2.4 million parameters for the latents of Stable Diffusion 1 and 2; taesd_16 for those
// of 16 channels (Stable Diffusion 3, FLUX.1).
inline constexpr VaeConfig taesd{.kind = VaeKind::autoencoder_tiny,
                                 .encoder_channels = {64, 64, 64, 64},
                                 .decoder_channels = {64, 64, 64, 64},
                                 .encoder_resnets = 3,
                                 .decoder_resnets = 3,
                                 .middle = false,
                                 .middle_attention = false,
                                 .quant_conv = false,
                                 .groups = 0,
                                 .scaling_millionths = 1'000'000};
inline constexpr VaeConfig taesd_16 = [] {
  VaeConfig c = taesd;
  c.latent_channels = 16;
  return c;
}();

inline constexpr TextEncoderConfig clip_l{};  // the text encoder of CLIP ViT-L/14
// Stable Diffusion XL's two: the first again, and OpenCLIP's ViT-bigG/14, whose projection the UNet reads as well.
inline constexpr TextEncoderConfig sdxl_text_1{.penultimate = true};
inline constexpr TextEncoderConfig sdxl_text_2{
    .width = 1280, .layers = 32, .heads = 20, .activation = Activation::gelu, .penultimate = true, .projection = 1280};

// MobileDiffusion at 512x512 (arXiv 2311.16567): no transformer at 64x64, cross-attention and feed-forward only at 32x32 and at
// the outer 16x16 position, full blocks inside. The paper leaves details open; these layouts meet its budgets: at most 400
// million parameters and 200 GMACs, 46 and 30 per cent of Stable Diffusion 1.5's MACs.
inline constexpr ModelConfig full{
    .text = clip_l, .unet = mobile_unet(1024, 5, false), .vae = tapered_vae, .sampler = {.steps = 8, .guidance_percent = 100}};
inline constexpr ModelConfig lite{
    .text = clip_l, .unet = mobile_unet(896, 4, true), .vae = light_vae, .sampler = {.steps = 8, .guidance_percent = 100}};

// The same model with another number of latent channels: 3 and 4 are in use as well as 8.
constexpr ModelConfig with_latent_channels(ModelConfig m, std::size_t channels) {
  m.unet.latent_channels = m.vae.latent_channels = channels;
  return m;
}
// The same model with another autoencoder of the same latents, for its own size of pictures.
constexpr ModelConfig with_vae(ModelConfig m, VaeConfig vae) {
  vae.height = m.vae.height;
  vae.width = m.vae.width;
  m.vae = vae;
  return m;
}
inline constexpr ModelConfig full_light = with_vae(full, light_vae);  // the same UNet and latents
// The same model for prompts of up to so many chunks of the text encoder's length (Stable Diffusion: 75 words and signs each). A
// prompt takes as many as it needs, so shorter ones are drawn as ever; what drawing takes of memory is for the longest.
constexpr ModelConfig with_long_prompts(ModelConfig m, std::size_t chunks) {
  m.unet.context_length = chunks * m.text.length;
  return m;
}
// The same model for pictures of another size, in pixels; the weights stay those of the original.
constexpr ModelConfig with_picture_size(ModelConfig m, std::size_t height, std::size_t width) {
  const std::size_t factor = m.vae.patch << (m.vae.levels - 1);
  m.vae.height = height;
  m.vae.width = width;
  m.unet.height = height / factor;
  m.unet.width = width / factor;
  return m;
}

namespace detail {

// Stable Diffusion's levels: transformers behind every residual block but at the lowest resolution.
constexpr UnetConfig sd_unet(std::size_t levels, std::size_t down_resnets, bool middle) {
  constexpr TransformerConfig one{.depth = 1};
  UnetConfig c{.levels = levels,
               .middle = {.resnets = std::size_t{middle ? 2u : 0u}, .transformer = {.depth = std::size_t{middle ? 1u : 0u}}},
               .attention = {.head_dim = 0, .heads = 8, .shared_kv = false},
               .feed_forward = {.ratio = 8, .activation = Activation::gelu}};
  constexpr std::array<std::size_t, 4> widths{320, 640, 1280, 1280};
  for (std::size_t l = 0; l < levels; ++l) {
    StageConfig& s = c.stages[l];
    s.channels = widths[l];
    s.down_resnets = down_resnets;
    s.up_resnets = down_resnets + 1;
    for (std::size_t i = 0; i < s.up_resnets && l < 3; ++i) {
      if (i < s.down_resnets) s.down_transformers[i] = one;
      s.up_transformers[i] = one;
    }
  }
  return c;
}
constexpr ModelConfig sd_model(const UnetConfig& unet) {
  return {.text = clip_l,
          .unet = unet,
          .vae = sd_vae,
          .sampler = {.prediction = Prediction::epsilon, .steps = 25, .guidance_percent = 750}};
}
// A layout of Stable Diffusion 1 as one of 2.1.
constexpr ModelConfig of_sd21(ModelConfig m) {
  m.text = {.width = 1024, .layers = 23, .heads = 16, .activation = Activation::gelu};
  m.unet.attention = {.head_dim = 64, .shared_kv = false, .linear_projections = true};
  m.unet.context_width = 1024;
  return m;
}
// Distilled to one step, with a tiny autoencoder.
constexpr ModelConfig in_one_step(ModelConfig m) {
  m.vae = taesd;
  m.sampler.steps = 1;
  m.sampler.guidance_percent = 100;
  return m;
}

}  // namespace detail

// The open family, by its published layouts and tensor names: Stable Diffusion 1.5, and its distillates with a residual block
// less a stage (base), without the middle (small) and without the lowest level (tiny): BK-SDM, arXiv 2305.15798.
inline constexpr ModelConfig sd15 = detail::sd_model(detail::sd_unet(4, 2, true));
inline constexpr ModelConfig bk_sdm_base = detail::sd_model(detail::sd_unet(4, 1, true));
inline constexpr ModelConfig bk_sdm_small = detail::sd_model(detail::sd_unet(4, 1, false));
inline constexpr ModelConfig bk_sdm_tiny = detail::sd_model(detail::sd_unet(3, 1, false));
// Stable Diffusion 2.1 base, at 512x512: heads of 64, linear projections, the text encoder of OpenCLIP ViT-H/14 without its last
// layer. Stable Diffusion 2.1 was trained on at 768x768, with v-prediction.
inline constexpr ModelConfig sd21_base = detail::of_sd21(sd15);
inline constexpr ModelConfig sd21 = [] {
  ModelConfig m = with_picture_size(sd21_base, 768, 768);
  m.sampler.prediction = Prediction::v;
  return m;
}();

// Distilled to one step from Stable Diffusion 2.1 (arXiv 2311.17042): the same tensors.
inline constexpr ModelConfig sd_turbo = [] {
  ModelConfig m = sd21_base;
  m.sampler.steps = 1;
  m.sampler.guidance_percent = 100;
  return m;
}();
// Stable Diffusion 1.5 and 2 as inpainting models: the UNet reads the mask and the masked picture's latents behind its own.
inline constexpr ModelConfig sd15_inpainting = [] {
  ModelConfig m = sd15;
  m.unet.input_channels = 9;
  return m;
}();
inline constexpr ModelConfig sd2_inpainting = [] {
  ModelConfig m = sd21_base;
  m.unet.input_channels = 9;
  return m;
}();
// A latent consistency model of Stable Diffusion 1.5 (arXiv 2310.04378; LCM_Dreamshaper_v7): guidance is an input of the UNet.
inline constexpr ModelConfig lcm_dreamshaper = [] {
  ModelConfig m = sd15;
  m.unet.guidance_width = 256;
  m.sampler.steps = 4;
  m.sampler.guidance_percent = 800;
  return m;
}();

// BK-SDM's layouts distilled from Stable Diffusion 2.1 base, and those of Segmind from 1.5, which are BK-SDM's own.
inline constexpr ModelConfig bk_sdm_v2_base = detail::of_sd21(bk_sdm_base);
inline constexpr ModelConfig bk_sdm_v2_small = detail::of_sd21(bk_sdm_small);
inline constexpr ModelConfig bk_sdm_v2_tiny = detail::of_sd21(bk_sdm_tiny);
inline constexpr ModelConfig small_sd = bk_sdm_base;
inline constexpr ModelConfig tiny_sd = bk_sdm_tiny;

// SDXS (arXiv 2403.16627): one step, and a tiny autoencoder. The layout of bk_sdm_tiny, without transformers at 64x64
// (SDXS-512-DreamShaper), or with transformers there both of whose attentions read the text (SDXS-512-0.9, of SD-Turbo's widths
// but with eight heads at every level).
inline constexpr ModelConfig sdxs_512_dreamshaper = [] {
  ModelConfig m = detail::in_one_step(bk_sdm_tiny);
  m.unet.stages[0].down_transformers = m.unet.stages[0].up_transformers = {};
  return m;
}();
inline constexpr ModelConfig sdxs_512_09 = [] {
  ModelConfig m = detail::in_one_step(bk_sdm_v2_tiny);
  m.unet.attention.head_dim = 0;
  m.unet.attention.heads = bk_sdm_tiny.unet.attention.heads;
  StageConfig& s = m.unet.stages[0];
  for (std::size_t i = 0; i < s.up_resnets; ++i) {
    if (i < s.down_resnets) s.down_transformers[i].self_reads_context = true;
    s.up_transformers[i].self_reads_context = true;
  }
  return m;
}();

// Stable Diffusion XL's UNet (arXiv 2307.01952), at 1024x1024: two and ten transformer blocks at its lower levels. It reads both
// text encoders' contexts side by side, and as `pooled` the projection of the second, then the sinusoids (256 each, as of times)
// of six sizes: the original picture's height and width, its crop's top and left, the target's height and width.
inline constexpr UnetConfig sdxl_unet = [] {
  UnetConfig c = detail::sd_unet(3, 2, true);
  c.height = c.width = 128;
  for (std::size_t l = 0; l < 3; ++l)
    for (std::size_t i = 0; i < 3; ++i) {
      const TransformerConfig t{.depth = std::array<std::size_t, 3>{0, 2, 10}[l]};
      if (i < 2) c.stages[l].down_transformers[i] = t;
      c.stages[l].up_transformers[i] = t;
    }
  c.middle.transformer.depth = 10;
  c.attention = {.head_dim = 64, .shared_kv = false, .linear_projections = true};
  c.context_width = 768 + 1280;
  c.pooled_width = 1280 + picture_sizes * size_sinusoids;
  return c;
}();

// Stable Diffusion XL, and SDXL-Turbo (arXiv 2311.17042), which is the same tensors distilled to one step at 512x512.
inline constexpr ModelConfig sdxl{.text = sdxl_text_1,
                                  .text_2 = sdxl_text_2,
                                  .unet = sdxl_unet,
                                  .vae = sdxl_vae,
                                  .sampler = {.prediction = Prediction::epsilon, .steps = 30, .guidance_percent = 500}};
inline constexpr ModelConfig sdxl_turbo = [] {
  ModelConfig m = with_picture_size(sdxl, 512, 512);
  m.sampler.steps = 1;
  m.sampler.guidance_percent = 100;
  return m;
}();
// Segmind's SSD-1B (arXiv 2401.02677), distilled from it: fewer blocks in most transformers, and none in the middle, which keeps
// one residual block.
inline constexpr ModelConfig ssd_1b = [] {
  ModelConfig m = sdxl;
  constexpr TransformerConfig one{.depth = 1}, two{.depth = 2}, four{.depth = 4}, ten{.depth = 10};
  m.unet.stages[1].down_transformers = {two, two};
  m.unet.stages[1].up_transformers = {two, one, one};
  m.unet.stages[2].down_transformers = {four, four};
  m.unet.stages[2].up_transformers = {four, four, ten};
  m.unet.middle = {.resnets = 1};
  return m;
}();

// Stable Diffusion in small, for tests: its structure and its vocabulary, 64x64 pictures.
inline constexpr ModelConfig sd_toy{.text = {.width = 32, .layers = 2, .heads = 2},
                                    .unet = {.height = 8,
                                             .width = 8,
                                             .levels = 2,
                                             .stages = {StageConfig{.channels = 32,
                                                                    .down_transformers = {full_blocks(1)},
                                                                    .up_transformers = {full_blocks(1), full_blocks(1)}},
                                                        StageConfig{.channels = 64}},
                                             .middle = {.resnets = 2, .transformer = full_blocks(1)},
                                             .attention = {.head_dim = 0, .heads = 2, .shared_kv = false},
                                             .feed_forward = {.ratio = 8, .activation = Activation::gelu},
                                             .context_width = 32,
                                             .groups = 8},
                                    .vae = {.height = 64,
                                            .width = 64,
                                            .encoder_channels = {8, 16, 16, 16},
                                            .decoder_channels = {8, 16, 16, 16},
                                            .encoder_resnets = 1,
                                            .decoder_resnets = 2,
                                            .groups = 8},
                                    .sampler = {.prediction = Prediction::epsilon, .steps = 4, .guidance_percent = 500}};

// The model that this repository trains and ships: 128x128 pictures of emoji. MobileDiffusion in small: no transformer at the
// highest latent resolution, cross-attention and feed-forward only at the middle one, full blocks at the lowest, shared keys
// and values, ratio 6, separable convolutions.
inline constexpr ModelConfig emoji{
    .text =
        {.vocabulary = 3072, .length = 28, .width = 192, .layers = 3, .heads = 6, .mlp_ratio = 4, .causal = false, .pooled = 4},
    .unet = {.height = 16,
             .width = 16,
             .latent_channels = 8,
             .levels = 3,
             .stages = {StageConfig{.channels = 96, .separable = {.conv1 = true}, .separable_sampler = true},
                        StageConfig{.channels = 192,
                                    .down_transformers = {cross_only(1)},
                                    .up_transformers = {cross_only(1)},
                                    .separable = {.conv1 = true},
                                    .separable_sampler = true},
                        StageConfig{.channels = 320,
                                    .down_transformers = {full_blocks(1)},
                                    .up_transformers = {full_blocks(1), cross_only(1)},
                                    .separable = {.conv1 = true, .conv2 = true},
                                    .separable_sampler = true}},
             .middle = {.resnets = 2, .transformer = full_blocks(1), .separable = {.conv1 = true, .conv2 = true}},
             .attention = {.head_dim = 32, .position_embedding = true},
             .context_length = 28,
             .context_width = 192,
             .pooled_width = 4 * 192,
             .time_width = 384,
             .groups = 16},
    .vae = {.height = 128,
            .width = 128,
            .latent_channels = 8,
            .patch = 2,
            .levels = 3,
            .encoder_channels = {32, 64, 128},
            .decoder_channels = {32, 80, 128},
            .encoder_resnets = 1,
            .decoder_resnets = 2,
            .middle = false,
            .middle_attention = false,
            .quant_conv = false,
            .separable_samplers = true,
            .groups = 0,
            .scaling_millionths = 1'000'000},
    .sampler =
        {.schedule = Schedule::cosine, .prediction = Prediction::v, .shift_percent = 300, .steps = 20, .guidance_percent = 250},
};

// Every feature at toy size, for tests: both kinds of convolution, of attention and of sampler, odd counts.
inline constexpr ModelConfig tiny{
    .text = {.vocabulary = 40, .length = 7, .width = 16, .layers = 2, .heads = 2, .mlp_ratio = 2, .pooled = 1},
    .unet = {.height = 8,
             .width = 4,
             .latent_channels = 3,
             .levels = 3,
             .stages = {StageConfig{.channels = 8},
                        StageConfig{.channels = 16,
                                    .down_transformers = {cross_only(1)},
                                    .up_transformers = {none, cross_only(2)},
                                    .separable = {.conv1 = true},
                                    .separable_sampler = true},
                        StageConfig{.channels = 24,
                                    .down_transformers = {full_blocks(2)},
                                    .up_transformers = {full_blocks(1), cross_only(1)},
                                    .separable = {.conv1 = true, .conv2 = true},
                                    .separable_sampler = true}},
             .middle = {.resnets = 2, .transformer = full_blocks(1), .separable = {.conv2 = true}},
             .attention = {.head_dim = 8, .position_embedding = true},
             .context_length = 7,
             .context_width = 16,
             .pooled_width = 16,
             .groups = 4},
    .vae = {.height = 32,
            .width = 16,
            .latent_channels = 3,
            .patch = 2,
            .levels = 2,
            .encoder_channels = {8, 16},
            .decoder_channels = {8, 16},
            .encoder_resnets = 1,
            .decoder_resnets = 2,
            .separable_samplers = true,
            .groups = 4,
            .scaling_millionths = 1'000'000},
    .sampler = {.schedule = Schedule::cosine, .steps = 3},
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::presets

#include "../core/end.hpp"
