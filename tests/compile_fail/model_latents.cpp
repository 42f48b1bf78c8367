// SPDX-License-Identifier: Apache-2.0
// A UNet and a VAE that disagree on the latents.
// expect: mobilediffusion: UNet and VAE must agree on `latent_channels`
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny;
  c.unet.latent_channels += 1;
  return c;
}();
static_assert(mobilediffusion::ValidModel<config>::value);
