// SPDX-License-Identifier: Apache-2.0
// What a user writes: one structural struct per part of the architecture. Plain numbers, usable as template arguments.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <cstddef>

#include "../core/activation.hpp"
#include "../core/error.hpp"
#include "../core/prediction.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// A stack of transformer blocks behind one residual block. depth 0: none there.
struct TransformerConfig {
  std::size_t depth = 0;
  bool self_attention = true;
  bool cross_attention = true;
  bool self_reads_context = false;  // attn1's keys and values are made of the text as well (diffusers' only_cross_attention)
};

// Which of a residual block's two 3x3 convolutions are depthwise + pointwise.
struct SeparableConfig {
  bool conv1 = false;
  bool conv2 = false;
};

// One resolution of the UNet, from the highest (stage 0) to the lowest.
struct StageConfig {
  std::size_t channels = 0;
  std::size_t down_resnets = 1;
  std::size_t up_resnets = 2;
  std::array<TransformerConfig, 4> down_transformers{};  // after residual block i on the way down
  std::array<TransformerConfig, 4> up_transformers{};    // after residual block i on the way up
  SeparableConfig separable{};
  std::size_t heads = 0;           // of its attention; 0: as AttentionConfig says
  bool separable_sampler = false;  // the convolution that leaves this stage (down) and that follows its up-sampling
};

struct MiddleConfig {
  std::size_t resnets = 2;  // 0 (no middle block), 1 or 2; the transformers stand between the first and the second
  TransformerConfig transformer{};
  SeparableConfig separable{};
};

struct AttentionConfig {
  std::size_t head_dim = 64;  // heads = channels / head_dim; 0: use `heads` at every width (SD 1.5: 8)
  std::size_t heads = 0;
  bool shared_kv = true;  // one projection for keys and values
  AttentionKind kind = AttentionKind::softmax;
  bool projections = true;          // proj_in and proj_out around each stack
  bool linear_projections = false;  // stored as [C,C] (SD 2.x) instead of [C,C,1,1]
  bool position_embedding = false;  // learned, per token, added after proj_in
};

struct FeedForwardConfig {
  std::size_t ratio = 6;                     // C -> ratio*C (value and gate) -> ratio/2*C -> C; SD's GEGLU is 8
  Activation activation = Activation::silu;  // of the gate
};

struct UnetConfig {
  std::size_t height = 64, width = 64;  // of the latents
  std::size_t latent_channels = 4;
  std::size_t input_channels =
      0;  // of what conv_in reads; 0: the latents alone. 9, inpainting: mask and masked picture behind them
  std::size_t levels = 3;
  std::array<StageConfig, 4> stages{};
  MiddleConfig middle{};
  AttentionConfig attention{};
  FeedForwardConfig feed_forward{};
  std::size_t context_length = 77, context_width = 768;
  std::size_t pooled_width = 0;    // > 0: a pooled text vector enters the time embedding (add_embedding, as in SDXL)
  std::size_t guidance_width = 0;  // > 0: guidance enters the time embedding as so many sinusoids (LCM's cond_proj: 256)
  std::size_t time_width = 0;      // 0: four times the first stage's channels
  std::size_t groups = 32;         // of every GroupNorm
};

// Of the transformers at a level.
constexpr std::size_t attention_heads(const UnetConfig& c, std::size_t level) {
  if (c.stages[level].heads != 0) return c.stages[level].heads;
  return c.attention.heads != 0 ? c.attention.heads : c.stages[level].channels / c.attention.head_dim;
}

// Stable Diffusion's, or TAESD's for the same latents: convolutions of one width alone, a fraction of the work, less exact.
enum class VaeKind { autoencoder_kl, autoencoder_tiny };
constexpr const char* name_of(VaeKind kind) {
  switch (kind) {
    case VaeKind::autoencoder_kl:
      return "autoencoder_kl";
    case VaeKind::autoencoder_tiny:
      return "autoencoder_tiny";
  }
  throw Error("autoencoder: unknown kind");
}

// diffusers' AutoencoderKL or AutoencoderTiny. `patch` > 1 moves that much resolution into channels at the picture's side (pixel
// unshuffle / shuffle); with a greater `decoder_patch` the decoder ends in so much fewer levels. A tiny one has neither patch,
// middle, quant_conv, separable convolutions nor norms (`groups` 0), one width at all levels, `encoder_resnets` and
// `decoder_resnets` blocks at each level but the picture's, which has one, and latents that are not scaled (1'000'000).
struct VaeConfig {
  VaeKind kind = VaeKind::autoencoder_kl;
  std::size_t height = 512, width = 512;  // of the picture
  std::size_t latent_channels = 4;
  std::size_t patch = 1;
  std::size_t decoder_patch = 0;  // 0: as `patch`; else that, or a power of two times it
  std::size_t levels = 4;
  std::array<std::size_t, 4> encoder_channels{128, 256, 512, 512};  // from the picture's side
  std::array<std::size_t, 4> decoder_channels{128, 256, 512, 512};  // from the decoder's end as well; run reversed
  std::size_t encoder_resnets = 2, decoder_resnets = 3;             // per level
  bool middle = true;                                               // the block pair at the latent resolution
  bool decoder_middle = true;                                       // whether the decoder has it, where `middle` says so
  bool middle_attention = true;                                     // its single-head attention
  bool quant_conv = true;                                           // 1x1 convolutions around the latents
  SeparableConfig decoder_separable{};                              // of the decoder's residual blocks but the middle's
  bool separable_samplers = false;                                  // of the decoder's up-sampling convolutions
  std::size_t groups = 32;                   // 0: no normalization (TAESD): cheaper, and flat colours stay exact
  bool decoder_norms = true;                 // whether the decoder has norms, where `groups` says so
  std::size_t scaling_millionths = 182'150;  // latents are multiplied by this / 1e6 to have unit variance
};

// The decoder's, and how many levels it has: one less for each doubling of its patch.
constexpr std::size_t decoder_patch(const VaeConfig& c) { return c.decoder_patch == 0 ? c.patch : c.decoder_patch; }
constexpr std::size_t decoder_levels(const VaeConfig& c) {
  std::size_t levels = c.levels;
  for (std::size_t patch = decoder_patch(c); patch > c.patch && levels > 1; patch /= 2) --levels;
  return levels;
}

// The text transformer of CLIP: pre-norm layers; the last hidden state, normed, is the UNet's context.
struct TextEncoderConfig {
  std::size_t vocabulary = 49'408, length = 77, width = 768, layers = 12, heads = 12, mlp_ratio = 4;
  Activation activation = Activation::quick_gelu;
  bool causal = true;
  // Also this many sums of the prompt's token embeddings, weighted by the first cosines over its places: a path that no mean over
  // the caption can drown. One says which words there are, more of them in which order.
  std::size_t pooled = 0;
  // Stable Diffusion XL: the context is what enters the last layer, without a norm.
  bool penultimate = false;
  // > 0: the pooled vector is the last state of the caption's end, normed and projected to this width (CLIP's text_projection).
  std::size_t projection = 0;
};

// Whether a model has a second one.
constexpr bool is_present(const TextEncoderConfig& c) { return c.layers > 0; }
inline constexpr std::size_t picture_sizes = 6, size_sinusoids = 256;  // that follow the second's projection; of each

struct SamplerConfig {
  Schedule schedule = Schedule::scaled_linear;
  Prediction prediction = Prediction::v;
  std::size_t shift_percent = 100;     // t -> s t / (1 + (s-1) t) with s = shift_percent / 100: > 100 spends more steps on noise
  std::size_t steps = 20;              // defaults of a request
  std::size_t guidance_percent = 300;  // at most 100: no guidance
};

// A whole model. With a second text encoder, as Stable Diffusion XL has, the UNet reads both contexts side by side; its pooled
// vector is the second's projection and the sinusoids of six sizes: the original picture's height and width, its crop's top and
// left, the target's height and width (arXiv 2307.01952, section 2.2).
struct ModelConfig {
  TextEncoderConfig text{};
  TextEncoderConfig text_2{.layers = 0};  // 0 layers: none
  UnetConfig unet{};
  VaeConfig vae{};
  SamplerConfig sampler{};
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
