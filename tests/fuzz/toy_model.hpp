// SPDX-License-Identifier: Apache-2.0
// A model of one level with every kind of part: its files' headers are a few kilobytes.
#pragma once

#include "mobilediffusion/config/config.hpp"

namespace fuzz {

inline constexpr mobilediffusion::ModelConfig toy{
    .text = {.vocabulary = 40, .length = 8, .width = 8, .layers = 1, .heads = 1, .mlp_ratio = 1},
    .unet = {.height = 2,
             .width = 2,
             .latent_channels = 1,
             .levels = 1,
             .stages = {mobilediffusion::StageConfig{.channels = 8,
                                                     .up_transformers = {mobilediffusion::TransformerConfig{.depth = 1}}}},
             .middle = {.resnets = 0},
             .attention = {.head_dim = 8, .shared_kv = false},
             .context_length = 8,
             .context_width = 8,
             .groups = 2},
    .vae = {.height = 2,
            .width = 2,
            .latent_channels = 1,
            .levels = 1,
            .encoder_channels = {2},
            .decoder_channels = {2},
            .encoder_resnets = 1,
            .decoder_resnets = 1,
            .middle = false,
            .middle_attention = false,
            .groups = 1}};

}  // namespace fuzz
