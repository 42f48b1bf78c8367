// SPDX-License-Identifier: Apache-2.0
// Residual and transformer blocks against PyTorch: outputs and gradients.
#include <algorithm>

#include "golden/golden.hpp"
#include "mobilediffusion/blocks/resnet.hpp"
#include "mobilediffusion/blocks/transformer.hpp"

using namespace mobilediffusion;

namespace {

template <ResnetSpec S>
void resnet(const char* name) {
  using Block = ResnetBlock<S>;
  golden::Case<typename Block::Weights> g("blocks", name);
  typename Block::Saved saved;
  const float* time = Block::has_time ? g.input("time") : nullptr;
  g.run(
      Block::stack_floats(Plan::inference, golden::batch),
      [&](Context& c, const auto& w) { Block::forward(c, w, g.input("x"), time, g.output("y"), saved); },
      [&](Context& c, const auto& w, const auto& d) {
        Block::backward(c, w, d, saved, g.cotangent("y"), g.assigned("x"), Block::has_time ? g.added("time") : nullptr);
      });
}

template <TransformerSpec S>
void transformer_block(const char* name) {
  using Block = TransformerBlock<S>;
  golden::Case<typename Block::Weights> g("blocks", name);
  typename Block::Saved saved;
  g.run(
      Block::stack_floats(Plan::inference, golden::batch),
      [&](Context& c, const auto& w) {
        Block::forward(c, w, g.input("x"), S.cross_attention ? g.input("context") : nullptr, g.output("y"), saved);
      },
      [&](Context& c, const auto& w, const auto& gradients) {
        float* d = g.assigned("x");  // the output's gradient, which becomes the input's
        std::copy_n(g.cotangent("y"), golden::batch * S.tokens * S.width, d);
        Block::backward(c, w, gradients, saved, d, S.cross_attention ? g.added("context") : nullptr);
      });
}

template <TransformerSpec S>
void transformer2d(const char* name) {
  using Block = Transformer2D<S>;
  golden::Case<typename Block::Weights> g("blocks", name);
  typename Block::Saved saved;
  g.run(
      Block::stack_floats(Plan::inference, golden::batch),
      [&](Context& c, const auto& w) { Block::forward(c, w, g.input("x"), g.input("context"), g.output("y"), saved); },
      [&](Context& c, const auto& w, const auto& d) {
        Block::backward(c, w, d, saved, g.cotangent("y"), g.assigned("x"), g.added("context"));
      });
}

// A specification with one thing changed.
constexpr TransformerSpec with(TransformerSpec s, auto change) {
  change(s);
  return s;
}

}  // namespace

TEST_CASE("golden: residual blocks equal PyTorch's") {
  resnet<ResnetSpec{.in = 8, .out = 8, .height = 4, .width = 3, .groups = 4}>("resnet");
  resnet<ResnetSpec{.in = 8, .out = 12, .height = 4, .width = 3, .groups = 4, .time_width = 10}>("resnet_time_shortcut");
  resnet<ResnetSpec{.in = 8, .out = 12, .height = 4, .width = 3, .groups = 4, .time_width = 10, .separable1 = true}>(
      "resnet_separable1");
  resnet<ResnetSpec{.in = 12, .out = 12, .height = 4, .width = 3, .groups = 4, .time_width = 10, .separable2 = true}>(
      "resnet_separable2");
}

TEST_CASE("golden: transformer blocks equal PyTorch's") {
  constexpr TransformerSpec spec{
      .depth = 1, .width = 16, .heads = 2, .tokens = 6, .groups = 4, .context_length = 5, .context_width = 12};
  constexpr auto sd =
      with(spec, [](auto& s) { s.shared_kv = false, s.linear_projections = true, s.ratio = 8, s.activation = Activation::gelu; });
  transformer_block<spec>("transformer_block");
  transformer_block<with(spec, [](auto& s) { s.self_attention = false; })>("transformer_block_cross_only");
  transformer_block<with(spec, [](auto& s) { s.cross_attention = false; })>("transformer_block_self_only");
  transformer_block<sd>("transformer_block_separate_gelu");
  transformer2d<with(spec, [](auto& s) { s.depth = 2, s.position_embedding = true; })>("transformer2d_position");
  transformer2d<sd>("transformer2d_linear");
  transformer2d<with(spec, [](auto& s) { s.projections = false; })>("transformer2d_bare");
}
