// SPDX-License-Identifier: Apache-2.0
// A transformer without the residual block that it follows.
// expect: mobilediffusion: a transformer stands behind a residual block
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.unet;
  c.stages[0].down_transformers[3].depth = 1;
  return c;
}();
static_assert(mobilediffusion::ValidUnet<config>::value);
