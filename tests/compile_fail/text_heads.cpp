// SPDX-License-Identifier: Apache-2.0
// A text width that its heads cannot share.
// expect: mobilediffusion: the text width must be a multiple of its heads
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.text;
  c.heads = c.width + 1;
  return c;
}();
static_assert(mobilediffusion::ValidTextEncoder<config>::value);
