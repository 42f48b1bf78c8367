// SPDX-License-Identifier: Apache-2.0
// An odd ratio has no half for the gate.
// expect: mobilediffusion: the feed-forward ratio counts value and gate and must be even
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/config/validate.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.unet;
  c.feed_forward.ratio = 5;
  return c;
}();
static_assert(mobilediffusion::ValidUnet<config>::value);
