// SPDX-License-Identifier: Apache-2.0
// Architectures by name. A preset is a whole model: presets::emoji.unet, .vae, .text, .sampler.
#pragma once

#include "config.hpp"

namespace mobilediffusion::presets {

inline constexpr TransformerConfig none{};
inline constexpr TransformerConfig cross_only(std::size_t depth) { return {.depth = depth, .self_attention = false}; }
inline constexpr TransformerConfig full_blocks(std::size_t depth) { return {.depth = depth}; }

// The model that this repository trains and ships: 128x128 pictures of emoji. MobileDiffusion in small: no transformer at the
// highest latent resolution, cross-attention and feed-forward only at the middle one, full blocks at the lowest, shared keys
// and values, ratio 6, separable convolutions.
inline constexpr ModelConfig emoji{
    .text = {.vocabulary = 3072,
             .length = 28,
             .width = 192,
             .layers = 3,
             .heads = 6,
             .mlp_ratio = 4,
             .causal = false,
             .pooled = true},
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
             .pooled_width = 192,
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
    .text = {.vocabulary = 40, .length = 7, .width = 16, .layers = 2, .heads = 2, .mlp_ratio = 2, .pooled = true},
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

}  // namespace mobilediffusion::presets
