// SPDX-License-Identifier: Apache-2.0
// The weights that a training starts from, by the names of the tensors.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/models/text_encoder.hpp>
#include <mobilediffusion/models/unet.hpp>
#include <mobilediffusion/models/vae.hpp>
#include <mobilediffusion/train/initialize.hpp>
#include <set>
#include <string>

#include "catch.hpp"
#include "gradient_check.hpp"

namespace test_initialize_cpp {

using namespace mobilediffusion;
using gradient_tests::Bound;

namespace {

struct Denoiser {
  TextEncoder<presets::tiny.text>::Weights text_encoder;
  Unet<presets::tiny.unet>::Weights unet;
};
using Autoencoder = Vae<presets::tiny.vae>::Weights;

template <class W>
std::string bytes(std::uint64_t seed, train::InitializeRules rules = {}) {
  Bound<W> weights;
  train::initialize(*weights, seed, rules);
  return {reinterpret_cast<const char*>(weights.memory().data()), weights.memory().bytes()};
}

bool has(std::string_view path, std::string_view part) { return path.find(part) != std::string_view::npos; }

// Which tensors are zero throughout, besides biases; and a check of all others.
template <class W>
std::set<std::string> zeros(const W& weights) {
  std::set<std::string> out;
  reflect::visit(weights, [&]<class Leaf>(std::string_view path, Leaf& leaf) {
    INFO(path);
    double sum = 0, square = 0;
    for (std::size_t i = 0; i < Leaf::count; ++i) {
      sum += static_cast<double>(leaf.data[i]);
      square += static_cast<double>(leaf.data[i]) * static_cast<double>(leaf.data[i]);
    }
    const double n = static_cast<double>(Leaf::count), deviation = std::sqrt(square / n),
                 margin = std::min(1.0, 4.0 / std::sqrt(n));
    if (path.ends_with(".bias")) {
      CHECK(square == 0.0);
    } else if (has(path, "norm")) {
      CHECK((sum == n && square == n));
    } else if (square == 0.0) {
      out.emplace(path);
    } else if (has(path, "token_embedding")) {
      CHECK(deviation == Approx(0.3).epsilon(margin));
    } else if (has(path, "position_embedding") || has(path, "pos_embed")) {
      CHECK(deviation == Approx(0.02).epsilon(margin));
    } else {
      // Variance 1 / fan-in: outputs of unit inputs have unit variance.
      std::size_t fan_in = 1;
      for (std::size_t k = 1; k < Leaf::file_shape.size(); ++k) fan_in *= Leaf::file_shape[k];
      CHECK(deviation * std::sqrt(static_cast<double>(fan_in)) == Approx(1.0).epsilon(margin));
      CHECK(std::fabs(sum / n) < 5.0 * deviation / std::sqrt(n));
    }
  });
  return out;
}

}  // namespace

TEST_CASE("a UNet and a text encoder begin with empty branches", "[train][initialize]") {
  Bound<Denoiser> weights;
  train::initialize(*weights, 3);
  const std::set<std::string> empty = zeros(*weights);
  CHECK(empty.count("unet.conv_out.weight") == 1);
  CHECK(empty.count("unet.down_blocks.0.resnets.0.conv2.weight") == 1);
  CHECK(empty.count("text_encoder.text_model.encoder.layers.1.self_attn.out_proj.weight") == 1);
  CHECK(empty.count("text_encoder.text_model.encoder.layers.1.mlp.fc2.weight") == 1);
  std::size_t pointwise = 0, attention = 0, feed_forward = 0;
  for (const std::string& path : empty) {
    INFO(path);
    const bool ends = has(path, ".conv2.") || has(path, "to_out.0.") || has(path, "ff.net.2.") || has(path, "proj_out.") ||
                      has(path, "out_proj.") || has(path, "fc2.") || path == "unet.conv_out.weight";
    CHECK(ends);
    pointwise += has(path, ".conv2.pointwise");
    attention += has(path, "to_out.0.");
    feed_forward += has(path, "ff.net.2.");
  }
  CHECK(pointwise > 0);
  CHECK(attention > 0);
  CHECK(feed_forward > 0);

  train::initialize(*weights, 3, {.zero_branches = false});
  CHECK(zeros(*weights).empty());
}

TEST_CASE("an autoencoder begins with empty branches, but its ends are open", "[train][initialize]") {
  Bound<Autoencoder> weights;
  train::initialize(*weights, 3);
  const std::set<std::string> empty = zeros(*weights);
  CHECK(empty.count("encoder.conv_out.weight") == 0);
  CHECK(empty.count("decoder.conv_out.weight") == 0);
  CHECK(empty.count("encoder.down_blocks.0.resnets.0.conv2.weight") == 1);
}

TEST_CASE("equal seeds give equal bytes, other seeds other ones", "[train][initialize]") {
  CHECK(bytes<Autoencoder>(7) == bytes<Autoencoder>(7));
  CHECK(bytes<Autoencoder>(7) != bytes<Autoencoder>(8));
  // No two tensors share their numbers.
  Bound<Autoencoder> weights;
  train::initialize(*weights, 7);
  std::set<float> first;
  std::size_t random = 0;
  reflect::visit(*weights, [&]<class Leaf>(std::string_view, Leaf& leaf) {
    const float x = leaf.data[0];
    if (x == 0.0f || x == 1.0f) return;
    ++random;
    first.insert(x);
  });
  CHECK(first.size() == random);
}

}  // namespace test_initialize_cpp
