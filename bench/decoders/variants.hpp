// SPDX-License-Identifier: Apache-2.0
// The decoders that are compared: one value each, at two scales. To add one, append a Variant: its change is made to both.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "mobilediffusion/config/presets.hpp"

namespace decoders {

namespace md = mobilediffusion;

// The same architecture for 512x512 pictures, counted and timed, and for the demo's 128x128, trained: a quarter as wide there.
// Of the demo's value the decoder alone is used.
struct Variant {
  std::string_view name;
  md::VaeConfig full, demo;
};

constexpr md::VaeConfig with_widths(md::VaeConfig c, const std::array<std::size_t, 4>& of_full) {
  for (std::size_t l = 0; l < of_full.size(); ++l) c.decoder_channels[l] = of_full[l] * c.height / 512;
  return c;
}
inline constexpr md::VaeConfig full_start = md::presets::tapered_vae, demo_start = with_widths({.height = 128,
                                                                                                .width = 128,
                                                                                                .latent_channels = 8,
                                                                                                .encoder_channels = {8, 8, 8, 8},
                                                                                                .encoder_resnets = 1,
                                                                                                .decoder_resnets = 2,
                                                                                                .groups = 8,
                                                                                                .scaling_millionths = 1'000'000},
                                                                                               full_start.decoder_channels);

// The changes, each made to a copy.
constexpr md::VaeConfig without_attention(md::VaeConfig c) {
  c.middle_attention = false;
  return c;
}
constexpr md::VaeConfig without_middle(md::VaeConfig c) {
  c.decoder_middle = false;
  return c;
}
constexpr md::VaeConfig without_norms(md::VaeConfig c) {
  c.decoder_norms = false;
  c.middle_attention = c.middle_attention && !c.decoder_middle;  // the decoder's is normalized
  return c;
}
constexpr md::VaeConfig with_wider_groups(md::VaeConfig c) {
  c.groups /= 4;
  return c;
}
constexpr md::VaeConfig with_separable_blocks(md::VaeConfig c) {
  c.decoder_separable = {.conv1 = true, .conv2 = true};
  return c;
}
constexpr md::VaeConfig with_separable_samplers(md::VaeConfig c) {
  c.separable_samplers = true;
  return c;
}
constexpr md::VaeConfig with_one_block(md::VaeConfig c) {
  c.decoder_resnets = 1;
  return c;
}
// Depth to space: the highest level goes, and twelve channels at half the resolution become the picture.
constexpr md::VaeConfig with_shuffle(md::VaeConfig c) {
  for (std::size_t l = 0; l + 1 < c.levels; ++l) c.decoder_channels[l] = c.decoder_channels[l + 1];
  c.decoder_channels[c.levels - 1] = 0;
  c.decoder_patch = 2;
  return c;
}
constexpr md::VaeConfig tiny(const md::VaeConfig& start) {
  md::VaeConfig c = md::presets::taesd;
  c.height = start.height;
  c.width = start.width;
  c.latent_channels = start.latent_channels;
  for (std::size_t& width : c.encoder_channels) width = 64 * start.height / 512;
  c.decoder_channels = c.encoder_channels;
  return c;
}

constexpr Variant variant(std::string_view name, auto change) { return {name, change(full_start), change(demo_start)}; }
// What all the light ones have: no middle, twelve channels at half the resolution, separable convolutions behind each doubling.
constexpr md::VaeConfig light(const md::VaeConfig& c) { return with_separable_samplers(with_shuffle(without_middle(c))); }
constexpr md::VaeConfig narrow(const md::VaeConfig& c) { return with_widths(c, {64, 128, 256, 0}); }

inline constexpr std::array variants{
    variant("tapered_vae: attention, norms, dense", [](auto c) { return c; }),
    // One change at a time.
    variant("without attention", without_attention),
    variant("without the middle", without_middle),
    variant("without norms and attention", without_norms),
    variant("8 groups instead of 32", with_wider_groups),
    variant("separable blocks", with_separable_blocks),
    variant("separable up-sampling", with_separable_samplers),
    variant("one block a level", with_one_block),
    variant("widths 32, 64, 128, 256",
            [](auto c) {
              return with_widths(c, {32, 64, 128, 256});
            }),
    variant("widths 32, 32, 64, 128",
            [](auto c) {
              return with_widths(c, {32, 32, 64, 128});
            }),
    variant("depth to space", with_shuffle),
    variant("TAESD", tiny),
    // Together, with norms: at most 40 GMACs.
    variant("light, widths 64, 128, 256", [](auto c) { return narrow(light(c)); }),
    variant("light, one block a level", [](auto c) { return with_one_block(light(c)); }),
    variant("light, separable blocks", [](auto c) { return with_separable_blocks(light(c)); }),
    variant("light, widths 64, 128, 256, 8 groups", [](auto c) { return with_wider_groups(narrow(light(c))); }),
    // And without, one on top of the other; then what else makes a light one.
    variant("without norms and the middle", [](auto c) { return without_norms(without_middle(c)); }),
    variant("light, without norms", [](auto c) { return without_norms(light(c)); }),
    variant("light, widths 64, 128, 256, without norms", [](auto c) { return without_norms(narrow(light(c))); }),
    variant("light, one block a level, without norms", [](auto c) { return without_norms(with_one_block(light(c))); }),
    variant("light, separable blocks, without norms", [](auto c) { return without_norms(with_separable_blocks(light(c))); }),
};

}  // namespace decoders
