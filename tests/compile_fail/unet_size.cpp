// SPDX-License-Identifier: Apache-2.0
// Latents that cannot be halved at every level.
// expect: mobilediffusion: the latent height and width must be divisible by 2^(levels-1)
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.unet;
  c.height += 1;
  return c;
}();
static_assert(mobilediffusion::ValidUnet<config>::value);
