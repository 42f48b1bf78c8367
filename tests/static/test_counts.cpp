// SPDX-License-Identifier: Apache-2.0
// Parameters and multiply-accumulates of published and of hand-countable architectures: computed by the compiler, so this
// file is checked when it compiles.
#include "mobilediffusion/models/text_encoder.hpp"
#include "mobilediffusion/models/unet.hpp"
#include "mobilediffusion/models/vae.hpp"

namespace {

using namespace mobilediffusion;

constexpr TransformerConfig cross_only(std::size_t depth) { return {.depth = depth, .self_attention = false}; }
constexpr TransformerConfig full_blocks(std::size_t depth) { return {.depth = depth}; }
constexpr TransformerConfig one{.depth = 1};

// Stable Diffusion 1.5: 859,520,964 parameters as published; the MACs are those of its 686 tensors' layers and of the two
// products of every attention.
constexpr StageConfig sd_stage(std::size_t channels, bool attends) {
  StageConfig s{.channels = channels, .down_resnets = 2, .up_resnets = 3};
  if (attends) s.down_transformers = {one, one}, s.up_transformers = {one, one, one};
  return s;
}
constexpr UnetConfig sd15{.levels = 4,
                          .stages = {sd_stage(320, true), sd_stage(640, true), sd_stage(1280, true), sd_stage(1280, false)},
                          .middle = {.transformer = one},
                          .attention = {.head_dim = 0, .heads = 8, .shared_kv = false},
                          .feed_forward = {.ratio = 8, .activation = Activation::gelu}};
static_assert(Unet<sd15>::parameters == 859'520'964);
static_assert(Unet<sd15>::macs == 401'636'720'640);
static_assert(reflect::leaf_count<Unet<sd15>::Weights>() == 686);

// MobileDiffusion at 512x512: three levels, separable convolutions in part, shared keys and values, ratio 6.
constexpr UnetConfig mobile(std::size_t width, std::size_t depth, bool separable_everywhere, std::size_t latent_channels) {
  const SeparableConfig first{.conv1 = true}, high{.conv1 = separable_everywhere};
  return {.latent_channels = latent_channels,
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
static_assert(Unet<mobile(1024, 5, false, 8)>::parameters == 391'726'152);
static_assert(Unet<mobile(1024, 5, false, 8)>::macs == 184'736'514'048);
static_assert(reflect::leaf_count<Unet<mobile(1024, 5, false, 8)>::Weights>() == 496);
static_assert(Unet<mobile(896, 4, true, 8)>::parameters == 261'518'280);
static_assert(Unet<mobile(896, 4, true, 8)>::macs == 119'302'127'616);
static_assert(reflect::leaf_count<Unet<mobile(896, 4, true, 8)>::Weights>() == 454);

// AutoencoderKL of Stable Diffusion: the configuration's defaults.
constexpr VaeConfig sd_vae{};
static_assert(Vae<sd_vae>::parameters == 83'653'863);
static_assert(Vae<sd_vae>::encoder_macs == 558'329'233'408);
static_assert(Vae<sd_vae>::decoder_macs == 1'257'259'466'752);
static_assert(reflect::leaf_count<Vae<sd_vae>::Weights>() == 140 + 108);

// The text transformer of CLIP ViT-L/14: the configuration's defaults.
constexpr TextEncoderConfig clip{};
static_assert(TextEncoder<clip>::parameters == 123'060'480);
static_assert(TextEncoder<clip>::macs == 6'649'251'840);
static_assert(reflect::leaf_count<TextEncoder<clip>::Weights>() == 196);

// One level of 4x4 pixels and 8 channels, one residual block down, two up, no middle and no text: by hand.
constexpr UnetConfig small{.height = 4,
                           .width = 4,
                           .latent_channels = 1,
                           .levels = 1,
                           .stages = {StageConfig{.channels = 8}},
                           .middle = {.resnets = 0},
                           .time_width = 10,
                           .groups = 4};
constexpr std::size_t conv_in = 8 * 9 + 8, time_mlp = 8 * 10 + 10 + 10 * 10 + 10;
constexpr std::size_t down = 2 * 8 + (8 * 8 * 9 + 8) + (10 * 8 + 8) + 2 * 8 + (8 * 8 * 9 + 8);
constexpr std::size_t up = 2 * 16 + (8 * 16 * 9 + 8) + (10 * 8 + 8) + 2 * 8 + (8 * 8 * 9 + 8) + (8 * 16 + 8);
constexpr std::size_t conv_out = 2 * 8 + 8 * 9 + 1;
static_assert(Unet<small>::parameters == conv_in + time_mlp + down + 2 * up + conv_out);
static_assert(Unet<small>::macs == 16 * 8 * 9 + (8 * 10 + 10 * 10) + (2 * 16 * 8 * 8 * 9 + 10 * 8) +
                                       2 * (16 * 8 * 16 * 9 + 16 * 8 * 8 * 9 + 16 * 8 * 16 + 10 * 8) + 16 * 8 * 9);
static_assert(Unet<small>::weight_bytes == 4 * Unet<small>::parameters);

// The same with one cross-attention block: shared keys and values save one projection of the text.
constexpr UnetConfig with_text(bool shared) {
  UnetConfig c = small;
  c.stages[0].down_transformers[0] = cross_only(1);
  c.attention = {.head_dim = 8, .shared_kv = shared};
  c.context_length = 3;
  c.context_width = 5;
  return c;
}
constexpr std::size_t attention = 2 * 8 + 8 * 8 + 2 * 5 * 8 + 8 * 8 + 8, gated = 2 * 8 + (8 * 48 + 48) + (24 * 8 + 8);
constexpr std::size_t around = 2 * 8 + 2 * (8 * 8 + 8);
static_assert(Unet<with_text(false)>::parameters - Unet<small>::parameters == around + attention + gated);
static_assert(Unet<with_text(false)>::parameters - Unet<with_text(true)>::parameters == 5 * 8);
static_assert(Unet<with_text(false)>::macs - Unet<with_text(true)>::macs == 3 * 5 * 8);
static_assert(Unet<with_text(true)>::macs - Unet<small>::macs ==
              16 * (2 * 8 * 8) + (16 * 8 * 8 + 3 * 5 * 8 + 16 * 8 * 8 + 2 * 16 * 3 * 8) + 16 * (8 * 48 + 24 * 8));

}  // namespace
