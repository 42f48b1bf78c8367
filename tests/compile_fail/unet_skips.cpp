// SPDX-License-Identifier: Apache-2.0
// As many residual blocks up as down leave a skip unused.
// expect: mobilediffusion: a stage has one residual block more on the way up than down
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.unet;
  c.stages[0].up_resnets = c.stages[0].down_resnets;
  return c;
}();
static_assert(mobilediffusion::ValidUnet<config>::value);
