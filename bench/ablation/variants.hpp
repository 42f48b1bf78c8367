// SPDX-License-Identifier: Apache-2.0
// The configurations that are compared: one value each. To add one, append a Variant and, if it changes something new, a function
// of five lines.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/models/unet.hpp"

namespace ablation {

namespace md = mobilediffusion;

struct Variant {
  std::string_view name;
  std::string_view claim;  // MobileDiffusion's, for this change
  std::size_t before;      // the variant that it is compared with, by its place in the list
  md::UnetConfig unet;
};

// The start that every change is made to: Stable Diffusion's residual blocks (two a stage down, three up), its feed-forward, its
// separate keys and values, but three resolutions, and the transformers where MobileDiffusion has them (UViT).
inline constexpr md::UnetConfig low_resolution = [] {
  using md::presets::full_blocks;
  md::UnetConfig c = md::presets::full.unet;
  for (std::size_t l = 0; l < c.levels; ++l) c.stages[l].separable = {}, c.stages[l].down_resnets = 2, c.stages[l].up_resnets = 3;
  c.stages[1].down_transformers = std::array<md::TransformerConfig, 4>{{{}, full_blocks(1)}};
  c.stages[1].up_transformers = std::array<md::TransformerConfig, 4>{{full_blocks(1)}};
  c.stages[2].down_transformers = std::array<md::TransformerConfig, 4>{{full_blocks(2), full_blocks(3)}};
  c.stages[2].up_transformers = std::array<md::TransformerConfig, 4>{{full_blocks(3), full_blocks(2), full_blocks(1)}};
  c.middle.separable = {};
  c.attention.shared_kv = false;
  c.feed_forward = {.ratio = 8, .activation = md::Activation::gelu};
  return c;
}();

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
constexpr md::UnetConfig with_separable_convolutions(md::UnetConfig c) {
  c.stages[2].separable.conv1 = c.middle.separable.conv1 = true;
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

inline constexpr md::UnetConfig decoupled = without_costly_self_attention(low_resolution),
                                shared = with_shared_keys_and_values(decoupled), ratio_6 = with_ratio_6(shared),
                                swish = with_swish(ratio_6), separable = with_separable_convolutions(swish),
                                fewer = with_fewer_residual_blocks(separable);

inline constexpr std::array variants{
    Variant{"Stable Diffusion 1.5, 8 latent channels", "", 0, with_latent_channels(md::presets::sd15.unet, 8)},
    // Cumulative: each on top of the one before.
    Variant{"transformers at low resolution", "-26 % compute", 0, low_resolution},
    Variant{"+ no self-attention where it is costly", "-15 % compute", 1, decoupled},
    Variant{"+ shared keys and values", "-5 % parameters", 2, shared},
    Variant{"+ feed-forward ratio 6", "-10 % parameters", 3, ratio_6},
    Variant{"+ Swish", "", 4, swish},
    Variant{"+ separable convolutions", "-10 % parameters", 5, separable},
    Variant{"+ fewer residual blocks: full", "-19 % compute, -15 % parameters", 6, md::presets::full.unet},
    Variant{"Lite", "29.9 % of Stable Diffusion's compute", 7, md::presets::lite.unet},
    // One at a time, on the start.
    Variant{"start, no self-attention where it is costly", "-15 % compute", 1, decoupled},
    Variant{"start, shared keys and values", "-5 % parameters", 1, with_shared_keys_and_values(low_resolution)},
    Variant{"start, feed-forward ratio 6", "-10 % parameters", 1, with_ratio_6(low_resolution)},
    Variant{"start, separable convolutions", "-10 % parameters", 1, with_separable_convolutions(low_resolution)},
    Variant{"start, fewer residual blocks", "-19 % compute, -15 % parameters", 1, with_fewer_residual_blocks(low_resolution)},
    // Around the full model.
    Variant{"full, 4 latent channels", "", 7, with_latent_channels(md::presets::full.unet, 4)},
    Variant{"full, 3 latent channels", "", 7, with_latent_channels(md::presets::full.unet, 3)},
    Variant{"full, ReLU attention", "", 7, with_relu_attention(md::presets::full.unet)},
    Variant{"full, GELU", "", 7, with_gelu(md::presets::full.unet)},
};
static_assert(std::is_same_v<md::Unet<fewer>, md::Unet<md::presets::full.unet>>, "the chain ends in the full model");

}  // namespace ablation
