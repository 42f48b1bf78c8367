// SPDX-License-Identifier: Apache-2.0
// Random weights by name: the rules that a training starts from.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "../core/random.hpp"
#include "../reflect/reflect.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

// Biases 0, norm scales 1, matrices normal with variance 1 / fan-in, embeddings normal. What ends a residual branch starts at
// zero, so that every block begins as the identity (Goyal et al., arXiv 1706.02677, 5.1); so does the UNet's last convolution.
struct InitializeRules {
  float token_deviation = 0.3f, position_deviation = 0.02f;
  bool zero_branches = true;
};

template <class W>
void initialize(W& weights, std::uint64_t seed, InitializeRules rules = {}) {
  std::uint64_t stream = 0;
  for (const reflect::LeafView& leaf : reflect::leafs(weights)) {
    const std::string& path = leaf.path;
    const std::span<float> values(leaf.data(), leaf.type->count);
    const auto has = [&](std::string_view part) { return path.find(part) != std::string::npos; };
    const auto fill = [&](float value) { std::fill(values.begin(), values.end(), value); };
    const auto normal = [&](float deviation) {
      Random(seed, 0x1000 + stream).normals(values);
      for (float& x : values) x *= deviation;
    };
    const bool ends_branch = has("conv2.weight") || has("conv2.pointwise") || has("to_out.0") || has("ff.net.2") ||
                             has("proj_out") || has("out_proj") || has("mlp.fc2");
    ++stream;
    if (path.ends_with(".bias")) {
      fill(0.0f);
    } else if (has("norm")) {
      fill(1.0f);
    } else if (has("token_embedding")) {
      normal(rules.token_deviation);
    } else if (has("position_embedding") || has("pos_embed")) {
      normal(rules.position_deviation);
    } else if (rules.zero_branches && (ends_branch || path == "conv_out.weight" || path == "unet.conv_out.weight")) {
      fill(0.0f);
    } else {
      const bool depthwise = leaf.type->outer == 1 && leaf.type->taps > 1;
      const std::size_t fan_in = depthwise ? leaf.type->taps : leaf.type->count / leaf.type->file_shape[0];
      normal(1.0f / std::sqrt(static_cast<float>(fan_in)));
    }
  }
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
