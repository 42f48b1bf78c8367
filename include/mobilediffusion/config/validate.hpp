// SPDX-License-Identifier: Apache-2.0
// The rules of a configuration, each a static_assert that says the rule and what to change.
#pragma once

#include "../core/begin.hpp"

#include "config.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

constexpr bool any_transformer(const UnetConfig& c) {
  if (c.middle.resnets > 0 && c.middle.transformer.depth > 0) return true;
  for (std::size_t l = 0; l < c.levels && l < c.stages.size(); ++l) {
    for (std::size_t i = 0; i < c.stages[l].down_resnets && i < 4; ++i)
      if (c.stages[l].down_transformers[i].depth > 0) return true;
    for (std::size_t i = 0; i < c.stages[l].up_resnets && i < 4; ++i)
      if (c.stages[l].up_transformers[i].depth > 0) return true;
  }
  return false;
}

constexpr bool every_stage(const UnetConfig& c, auto&& rule) {
  for (std::size_t l = 0; l < c.levels && l < c.stages.size(); ++l)
    if (!rule(c.stages[l], l)) return false;
  return true;
}

// A transformer with neither attention is a feed-forward alone; a depth without a residual block before it would be lost.
constexpr bool transformers_follow_resnets(const StageConfig& s) {
  for (std::size_t i = 0; i < 4; ++i)
    if ((s.down_transformers[i].depth > 0 && i >= s.down_resnets) || (s.up_transformers[i].depth > 0 && i >= s.up_resnets))
      return false;
  return true;
}

// f(transformer) for all that a configuration uses.
constexpr bool every_transformer(const UnetConfig& c, auto&& rule) {
  if (c.middle.resnets > 0 && !rule(c.middle.transformer)) return false;
  return every_stage(c, [&](const StageConfig& s, std::size_t) {
    for (std::size_t i = 0; i < 4; ++i)
      if (!rule(s.down_transformers[i]) || !rule(s.up_transformers[i])) return false;
    return true;
  });
}

template <UnetConfig C>
struct ValidUnet {
  static_assert(C.levels >= 1 && C.levels <= 4, "mobilediffusion: a UNet has 1 to 4 levels; change `levels`");
  static_assert(C.latent_channels >= 1, "mobilediffusion: latents need at least one channel; change `latent_channels`");
  static_assert(every_stage(C, [](const StageConfig& s, std::size_t) { return s.channels > 0; }),
                "mobilediffusion: every level needs channels; fill `stages` up to `levels`");
  static_assert(every_stage(C, [](const StageConfig& s, std::size_t) { return C.groups > 0 && s.channels % C.groups == 0; }),
                "mobilediffusion: every stage's channels must be a multiple of `groups`; change `channels` or `groups`");
  static_assert(every_stage(C, [](const StageConfig& s, std::size_t) { return s.down_resnets >= 1 && s.down_resnets <= 4; }),
                "mobilediffusion: a stage has 1 to 4 residual blocks on the way down; change `down_resnets`");
  static_assert(every_stage(C, [](const StageConfig& s,
                                  std::size_t l) { return s.up_resnets == C.stages[l].down_resnets + 1 && s.up_resnets <= 4; }),
                "mobilediffusion: a stage has one residual block more on the way up than down, since each takes one skip; "
                "set `up_resnets` to `down_resnets` + 1, at most 4");
  static_assert(every_stage(C, [](const StageConfig& s, std::size_t) { return transformers_follow_resnets(s); }),
                "mobilediffusion: a transformer stands behind a residual block; give it an index below the stage's "
                "`down_resnets` or `up_resnets`");
  static_assert(
      C.levels < 1 || C.levels > 4 ||
          (C.height % (std::size_t{1} << (C.levels - 1)) == 0 && C.width % (std::size_t{1} << (C.levels - 1)) == 0),
      "mobilediffusion: the latent height and width must be divisible by 2^(levels-1); change `height`, `width` or `levels`");
  static_assert(C.middle.resnets <= 2, "mobilediffusion: the middle has 0, 1 or 2 residual blocks; change `middle.resnets`");
  static_assert(C.middle.resnets > 0 || C.middle.transformer.depth == 0,
                "mobilediffusion: a middle without residual blocks has no transformers; set `middle.resnets` or "
                "`middle.transformer.depth`");
  static_assert(
      (C.attention.head_dim == 0) != (C.attention.heads == 0),
      "mobilediffusion: give either the dimension of a head or the number of heads; set one of `head_dim`, `heads` to 0");
  static_assert(C.input_channels == 0 || C.input_channels >= C.latent_channels,
                "mobilediffusion: a UNet reads its latents and what follows them; set `input_channels` to 0 or to at least "
                "`latent_channels`");
  static_assert(C.guidance_width == 0 || (C.guidance_width >= 4 && C.guidance_width % 2 == 0),
                "mobilediffusion: the guidance's sinusoids come in pairs; make `guidance_width` 0, or even and at least 4");
  static_assert(
      every_transformer(C, [](const TransformerConfig& t) { return t.self_attention || !t.self_reads_context; }),
      "mobilediffusion: attn1 cannot read the text where it is left out; set `self_attention` or clear `self_reads_context`");
  static_assert(!any_transformer(C) || (C.context_length > 0 && C.context_width > 0),
                "mobilediffusion: transformers attend to the text; set `context_length` and `context_width`");
  static_assert(
      !any_transformer(C) || (C.feed_forward.ratio >= 2 && C.feed_forward.ratio % 2 == 0),
      "mobilediffusion: the feed-forward ratio counts value and gate and must be even; use 6 (MobileDiffusion) or 8 (SD)");
  static constexpr bool value = true;
};

template <VaeConfig C>
struct ValidVae {
  static_assert(C.levels >= 1 && C.levels <= 4, "mobilediffusion: a VAE has 1 to 4 levels; change `levels`");
  static_assert(C.patch == 1 || C.patch == 2 || C.patch == 4, "mobilediffusion: the VAE's patch is 1, 2 or 4; change `patch`");
  static_assert(
      C.decoder_patch == 0 || C.decoder_patch == C.patch << (C.levels - decoder_levels(C)),
      "mobilediffusion: the decoder's patch is the VAE's or twice, four or eight times that, with a level left below it; "
      "change `decoder_patch` or `levels`");
  static constexpr std::size_t factor = C.patch << (C.levels - 1);
  static_assert(C.height % factor == 0 && C.width % factor == 0,
                "mobilediffusion: the picture must be divisible by the VAE's down-sampling, patch * 2^(levels-1); change "
                "`height` or `width`");
  static constexpr bool widths() {
    const auto valid = [](std::size_t channels, std::size_t groups) {
      return channels > 0 && (groups == 0 || channels % groups == 0);
    };
    for (std::size_t l = 0; l < C.levels; ++l)
      if (!valid(C.encoder_channels[l], C.groups) ||
          (l < decoder_levels(C) && !valid(C.decoder_channels[l], C.decoder_norms ? C.groups : 0)))
        return false;
    return true;
  }
  static_assert(widths(),
                "mobilediffusion: every VAE width must be a positive multiple of `groups`; change the channels or `groups`");
  static_assert(
      C.encoder_resnets >= 1 && C.decoder_resnets >= 1,
      "mobilediffusion: the VAE needs at least one residual block per level; change `encoder_resnets` or `decoder_resnets`");
  static_assert(C.middle || !C.middle_attention,
                "mobilediffusion: the VAE's attention stands in its middle; set `middle` or clear `middle_attention`");
  static_assert(!C.middle_attention || C.groups > 0,
                "mobilediffusion: the VAE's attention is normalized; set `groups` or clear `middle_attention`");
  static_assert(!C.middle_attention || !C.decoder_middle || C.decoder_norms,
                "mobilediffusion: the decoder's attention is normalized; set `decoder_norms`, or clear `decoder_middle` or "
                "`middle_attention`");
  static_assert(C.latent_channels >= 1, "mobilediffusion: latents need at least one channel; change `latent_channels`");
  static constexpr bool tiny = C.kind == VaeKind::autoencoder_tiny;
  static constexpr bool separable = C.separable_samplers || C.decoder_separable.conv1 || C.decoder_separable.conv2;
  static_assert(!tiny || (C.patch == 1 && decoder_patch(C) == 1 && !C.middle && !C.quant_conv && !separable && C.groups == 0),
                "mobilediffusion: a tiny autoencoder has convolutions and ReLU alone; set `patch` to 1, `decoder_patch` and "
                "`groups` to 0, and clear `middle`, `middle_attention`, `quant_conv`, `decoder_separable` and "
                "`separable_samplers`");
  static constexpr bool one_width() {
    for (std::size_t l = 0; l < C.levels; ++l)
      if (C.encoder_channels[l] != C.encoder_channels[0] || C.decoder_channels[l] != C.decoder_channels[0]) return false;
    return true;
  }
  static_assert(!tiny || one_width(),
                "mobilediffusion: a tiny autoencoder has one width at all levels; make `encoder_channels` and `decoder_channels` "
                "equal up to `levels`");
  static_assert(
      !tiny || C.scaling_millionths == 1'000'000,
      "mobilediffusion: a tiny autoencoder reads and writes latents as they are; set `scaling_millionths` to 1'000'000");
  static constexpr bool value = true;
};

template <TextEncoderConfig C>
struct ValidTextEncoder {
  static_assert(C.heads > 0 && C.width % C.heads == 0,
                "mobilediffusion: the text width must be a multiple of its heads; change `width` or `heads`");
  static_assert(C.length >= 3, "mobilediffusion: a caption needs room for its start, one token and its end; change `length`");
  static_assert(C.pooled == 0 || C.projection == 0,
                "mobilediffusion: a text encoder pools in one way; set `pooled` or `projection` to 0");
  static_assert(C.layers >= 2 || !C.penultimate,
                "mobilediffusion: there is no layer before the last one; clear `penultimate` or change `layers`");
  static_assert(C.vocabulary >= 5,
                "mobilediffusion: the vocabulary holds four special tokens and at least one more; change `vocabulary`");
  static constexpr bool value = true;
};

// The parts fit together.
template <ModelConfig C>
struct ValidModel {
  static constexpr bool two_texts = is_present(C.text_2);
  static_assert(C.unet.context_width == C.text.width + (two_texts ? C.text_2.width : 0),
                "mobilediffusion: the UNet's `context_width` must equal the text encoder's `width`, or the sum of both text "
                "encoders'");
  static_assert(C.text.length > 0 && C.unet.context_length >= C.text.length && C.unet.context_length % C.text.length == 0,
                "mobilediffusion: the UNet reads whole chunks of a prompt; make its `context_length` a multiple of the text "
                "encoder's `length`");
  static_assert(!two_texts || (C.text.pooled == 0 && C.text.projection == 0 && C.text_2.pooled == 0 && C.text_2.projection > 0),
                "mobilediffusion: of two text encoders the second alone pools, by its projection; set `text_2.projection`, and "
                "`pooled` and `text.projection` to 0");
  static_assert(!two_texts || (C.text_2.length == C.text.length && C.text_2.vocabulary == C.text.vocabulary),
                "mobilediffusion: two text encoders read the same tokens; make `length` and `vocabulary` of `text_2` those of "
                "`text`");
  static_assert(!two_texts || C.unet.pooled_width == C.text_2.projection + picture_sizes * size_sinusoids,
                "mobilediffusion: with two text encoders the UNet's `pooled_width` must equal the second's `projection` and 6 "
                "sizes of 256 sinusoids");
  static_assert(two_texts || C.unet.pooled_width == C.text.pooled * C.text.width + C.text.projection,
                "mobilediffusion: the UNet's `pooled_width` must equal the text encoder's `pooled` times its `width`, or its "
                "`projection`");
  static_assert(C.unet.latent_channels == C.vae.latent_channels, "mobilediffusion: UNet and VAE must agree on `latent_channels`");
  static_assert(C.unet.height * ValidVae<C.vae>::factor == C.vae.height && C.unet.width * ValidVae<C.vae>::factor == C.vae.width,
                "mobilediffusion: the VAE's picture must be the UNet's latents times the VAE's down-sampling; change one of "
                "`height`, `width`");
  static_assert(C.sampler.steps >= 1 && C.sampler.steps <= 1000,
                "mobilediffusion: the sampler takes 1 to 1000 steps; change `steps`");
  static_assert(C.sampler.shift_percent >= 10, "mobilediffusion: the sampler's shift is at least 0.1; change `shift_percent`");
  static constexpr bool value = true;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
