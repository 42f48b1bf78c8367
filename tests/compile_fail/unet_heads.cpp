// SPDX-License-Identifier: Apache-2.0
// Both the dimension and the number of heads: which one holds?
// expect: mobilediffusion: give either the dimension of a head or the number of heads
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.unet;
  c.attention.head_dim = c.attention.heads = 8;
  return c;
}();
static_assert(mobilediffusion::ValidUnet<config>::value);
