// SPDX-License-Identifier: Apache-2.0
// Attention in a middle that is not there.
// expect: mobilediffusion: the VAE's attention stands in its middle
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.vae;
  c.middle = false, c.middle_attention = true;
  return c;
}();
static_assert(mobilediffusion::ValidVae<config>::value);
