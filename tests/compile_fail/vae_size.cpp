// SPDX-License-Identifier: Apache-2.0
// A picture that the VAE cannot halve down to whole latents.
// expect: mobilediffusion: the picture must be divisible by the VAE's down-sampling
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.vae;
  c.height += 1;
  return c;
}();
static_assert(mobilediffusion::ValidVae<config>::value);
