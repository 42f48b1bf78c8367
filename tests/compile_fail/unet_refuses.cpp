// SPDX-License-Identifier: Apache-2.0
// The model itself checks its configuration, not only the rules by themselves.
// expect: mobilediffusion: the feed-forward ratio counts value and gate and must be even
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/models/unet.hpp>

inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny.unet;
  c.feed_forward.ratio = 5;
  return c;
}();
inline constexpr std::size_t size = sizeof(mobilediffusion::Unet<config>);
