// SPDX-License-Identifier: Apache-2.0
// A UNet of five levels: there is no fifth stage to configure.
// expect: mobilediffusion: a UNet has 1 to 4 levels; change `levels`
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.unet;
  c.levels = 5;
  return c;
}();
static_assert(mobilediffusion::ValidUnet<config>::value);
