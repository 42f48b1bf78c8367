// SPDX-License-Identifier: Apache-2.0
// Channels that GroupNorm cannot divide.
// expect: mobilediffusion: every stage's channels must be a multiple of `groups`
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.unet;
  c.stages[0].channels += 1;
  return c;
}();
static_assert(mobilediffusion::ValidUnet<config>::value);
