// SPDX-License-Identifier: Apache-2.0
// The configurations that are compared: one value each, at two scales. To add one, append a Variant; if it changes something new,
// a function of five lines says what, and both scales get it:
//
//   constexpr md::UnetConfig with_wide_heads(md::UnetConfig c) {
//     c.attention.head_dim *= 2;
//     return c;
//   }
//   ...
//   Variant{"full, wide heads", "", 7, changed(finished, with_wide_heads)},
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <type_traits>

#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/models/unet.hpp"

namespace ablation {

namespace md = mobilediffusion;

// One architecture at both scales.
struct Scales {
  md::UnetConfig full;                 // of 512x512 pictures: counted and timed
  std::optional<md::UnetConfig> demo;  // of the emoji demo: trained; none: needs another autoencoder
};
constexpr Scales changed(Scales s, auto change) {
  s.full = change(s.full);
  if (s.demo) s.demo = change(*s.demo);
  return s;
}

struct Variant {
  std::string_view name;
  std::string_view claim;  // MobileDiffusion's, for this change
  std::size_t before;      // the variant that it is compared with, by its place in the list
  Scales unet;
};

// The changes, one at a time.
constexpr md::UnetConfig without_costly_self_attention(md::UnetConfig c) {
  for (auto* transformers : {&c.stages[1].down_transformers, &c.stages[1].up_transformers})
    for (md::TransformerConfig& t : *transformers)
      if (t.depth > 0) t.self_attention = false;
  c.stages[2].up_transformers[c.stages[2].up_resnets - 1].self_attention = false;
  return c;
}
constexpr md::UnetConfig with_shared_keys_and_values(md::UnetConfig c) {
  c.attention.shared_kv = true;
  return c;
}
constexpr md::UnetConfig with_ratio_6(md::UnetConfig c) {
  c.feed_forward.ratio = 6;
  return c;
}
constexpr md::UnetConfig with_swish(md::UnetConfig c) {
  c.feed_forward.activation = md::Activation::silu;
  return c;
}
// Where the other model has them.
constexpr md::UnetConfig with_convolutions_of(const md::UnetConfig& other, md::UnetConfig c) {
  for (std::size_t l = 0; l < c.levels; ++l) {
    c.stages[l].separable = other.stages[l].separable;
    c.stages[l].separable_sampler = other.stages[l].separable_sampler;
  }
  c.middle.separable = other.middle.separable;
  return c;
}
// The transformers stay: what stood behind two blocks stands behind one.
constexpr md::UnetConfig with_fewer_residual_blocks(md::UnetConfig c) {
  for (std::size_t l = 0; l < c.levels; ++l) {
    md::StageConfig& s = c.stages[l];
    s.down_resnets = 1;
    s.up_resnets = 2;
    const auto down = s.down_transformers, up = s.up_transformers;
    s.down_transformers = {};
    s.up_transformers = {};
    s.down_transformers[0] = down[1];
    s.down_transformers[0].depth = down[0].depth + down[1].depth;
    s.up_transformers[0] = up[0];
    s.up_transformers[0].depth = up[0].depth + up[1].depth;
    s.up_transformers[1] = up[2];
  }
  return c;
}
constexpr md::UnetConfig with_latent_channels(md::UnetConfig c, std::size_t channels) {
  c.latent_channels = channels;
  return c;
}
constexpr md::UnetConfig with_relu_attention(md::UnetConfig c) {
  c.attention.kind = md::AttentionKind::relu;
  return c;
}
constexpr md::UnetConfig with_gelu(md::UnetConfig c) {
  c.feed_forward.activation = md::Activation::gelu;
  return c;
}

// The start that every change is made to, from what the changes end in: Stable Diffusion's residual blocks (two a stage down,
// three up), its feed-forward, its separate keys and values, its self-attention in every transformer, plain convolutions; but
// three resolutions, and the transformers where MobileDiffusion has them (UViT).
constexpr md::UnetConfig low_resolution(md::UnetConfig c) {
  const auto full = [](std::size_t depth) { return md::TransformerConfig{.depth = depth}; };
  for (std::size_t l = 0; l < c.levels; ++l) {
    md::StageConfig& s = c.stages[l];
    const std::size_t down = s.down_transformers[0].depth, up = s.up_transformers[0].depth, last = s.up_transformers[1].depth;
    s.down_resnets = 2;
    s.up_resnets = 3;
    s.down_transformers = {full(down / 2), full(down - down / 2)};
    s.up_transformers = {full(up - up / 2), full(up / 2), full(last)};
  }
  c.attention.shared_kv = false;
  c.feed_forward = {.ratio = 8, .activation = md::Activation::gelu};
  return with_convolutions_of({}, c);
}
// Stable Diffusion's place for transformers: one behind every residual block, whatever the resolution.
constexpr md::UnetConfig with_transformers_everywhere(md::UnetConfig c) {
  for (std::size_t l = 0; l < c.levels; ++l) {
    c.stages[l].down_transformers = {};
    c.stages[l].up_transformers = {};
    for (std::size_t i = 0; i < c.stages[l].down_resnets; ++i) c.stages[l].down_transformers[i].depth = 1;
    for (std::size_t i = 0; i < c.stages[l].up_resnets; ++i) c.stages[l].up_transformers[i].depth = 1;
  }
  c.middle.transformer = {.depth = 1};
  return c;
}
// The demo's Lite: a third smaller, as Lite is smaller than full.
constexpr md::UnetConfig narrower(md::UnetConfig c) {
  c.stages[1].channels = 160;
  c.stages[2].channels = 256;
  return c;
}

constexpr Scales separable_as_in(const Scales& other, const Scales& s) {
  return {with_convolutions_of(other.full, s.full), with_convolutions_of(*other.demo, *s.demo)};
}
inline constexpr Scales finished{md::presets::full.unet, md::presets::emoji.unet},
    start = changed(finished, low_resolution), decoupled = changed(start, without_costly_self_attention),
    shared = changed(decoupled, with_shared_keys_and_values), ratio_6 = changed(shared, with_ratio_6),
    swish = changed(ratio_6, with_swish), separable = separable_as_in(finished, swish),
    fewer = changed(separable, with_fewer_residual_blocks);

inline constexpr std::array variants{
    Variant{"Stable Diffusion 1.5, 8 latent channels",
            "",
            0,
            {with_latent_channels(md::presets::sd15.unet, 8), with_transformers_everywhere(*start.demo)}},
    // Cumulative: each on top of the one before.
    Variant{"transformers at low resolution", "-26 % compute", 0, start},
    Variant{"+ no self-attention where it is costly", "-15 % compute", 1, decoupled},
    Variant{"+ shared keys and values", "-5 % parameters", 2, shared},
    Variant{"+ feed-forward ratio 6", "-10 % parameters", 3, ratio_6},
    Variant{"+ Swish", "", 4, swish},
    Variant{"+ separable convolutions", "-10 % parameters", 5, separable},
    Variant{"+ fewer residual blocks: full", "-19 % compute, -15 % parameters", 6, fewer},
    Variant{"Lite", "29.9 % of Stable Diffusion's compute", 7, {md::presets::lite.unet, narrower(*finished.demo)}},
    // One at a time, on the start.
    Variant{"start, no self-attention where it is costly", "-15 % compute", 1, decoupled},
    Variant{"start, shared keys and values", "-5 % parameters", 1, changed(start, with_shared_keys_and_values)},
    Variant{"start, feed-forward ratio 6", "-10 % parameters", 1, changed(start, with_ratio_6)},
    Variant{"start, separable convolutions", "-10 % parameters", 1, separable_as_in(finished, start)},
    Variant{"start, fewer residual blocks", "-19 % compute, -15 % parameters", 1, changed(start, with_fewer_residual_blocks)},
    // Around the full model.
    Variant{"full, 4 latent channels", "", 7, {with_latent_channels(finished.full, 4), {}}},
    Variant{"full, 3 latent channels", "", 7, {with_latent_channels(finished.full, 3), {}}},
    Variant{"full, ReLU attention", "", 7, changed(finished, with_relu_attention)},
    Variant{"full, GELU", "", 7, changed(finished, with_gelu)},
};
static_assert(std::is_same_v<md::Unet<fewer.full>, md::Unet<finished.full>>, "the chain ends in the full model");
static_assert(std::is_same_v<md::Unet<*fewer.demo>, md::Unet<*finished.demo>>, "and in the demo's");

}  // namespace ablation
