// SPDX-License-Identifier: Apache-2.0
// A UNet that expects wider text than the encoder gives.
// expect: mobilediffusion: the UNet's `context_width` must equal the text encoder's `width`
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny;
  c.unet.context_width += 8;
  return c;
}();
static_assert(mobilediffusion::ValidModel<config>::value);
