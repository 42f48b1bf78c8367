// SPDX-License-Identifier: Apache-2.0
// Random weights by name: the rules that a training starts from.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "../core/random.hpp"
#include "../reflect/reflect.hpp"

namespace mobilediffusion::train {

// Biases 0, norm scales 1, matrices normal with variance 1 / fan-in, embeddings normal. What ends a residual branch starts at
// zero, so that every block begins as the identity (Goyal et al., arXiv 1706.02677, 5.1); so does the UNet's last convolution.
struct InitializeRules {
  float token_deviation = 0.3f, position_deviation = 0.02f;
  bool zero_branches = true;
};

template <class W>
void initialize(W& weights, std::uint64_t seed, InitializeRules rules = {}) {
  std::uint64_t stream = 0;
  reflect::visit(weights, [&]<class Leaf>(std::string_view path, Leaf& leaf) {
    const auto has = [&](std::string_view part) { return path.find(part) != std::string_view::npos; };
    const auto fill = [&](float value) { for (std::size_t i = 0; i < Leaf::count; ++i) leaf.data[i] = value; };
    const auto normal = [&](float deviation) {
      Random(seed, 0x1000 + stream).normals({leaf.data, Leaf::count});
      for (std::size_t i = 0; i < Leaf::count; ++i) leaf.data[i] *= deviation;
    };
    ++stream;
    if (path.ends_with(".bias")) return fill(0.0f);
    if (has("norm")) return fill(1.0f);
    if (has("token_embedding")) return normal(rules.token_deviation);
    if (has("position_embedding") || has("pos_embed")) return normal(rules.position_deviation);
    const bool ends_branch = has("conv2.weight") || has("conv2.pointwise") || has("to_out.0") || has("ff.net.2") || has("proj_out") ||
                             has("out_proj") || has("mlp.fc2");
    if (rules.zero_branches && (ends_branch || path == "conv_out.weight" || path == "unet.conv_out.weight")) return fill(0.0f);
    const std::size_t fan_in = Leaf::outer == 1 && Leaf::taps > 1 ? Leaf::taps : Leaf::count / Leaf::file_shape[0];
    normal(1.0f / std::sqrt(static_cast<float>(fan_in)));
  });
}

}  // namespace mobilediffusion::train
