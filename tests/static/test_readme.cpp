// SPDX-License-Identifier: Apache-2.0
// The architecture that the README writes down: it compiles, and its claims hold.
#include <mobilediffusion/models/unet.hpp>

namespace md = mobilediffusion;

constexpr md::UnetConfig small{
    .height = 32, .width = 32, .latent_channels = 4, .levels = 2,
    .stages = {md::StageConfig{.channels = 64},                                              // no transformer up here
               md::StageConfig{.channels = 128,
                               .down_transformers = {md::TransformerConfig{.depth = 1}},
                               .up_transformers = {md::TransformerConfig{.depth = 1},
                                                   md::TransformerConfig{.depth = 1, .self_attention = false}},
                               .separable = {.conv1 = true}}},
    .middle = {.resnets = 2, .transformer = {.depth = 2}},
    .attention = {.head_dim = 32},                                                           // K and V share a projection
    .feed_forward = {.ratio = 6},
    .context_length = 77, .context_width = 768};

static_assert(md::Unet<small>::parameters < 10'000'000);
static_assert(md::Unet<small>::macs < 2'000'000'000);
