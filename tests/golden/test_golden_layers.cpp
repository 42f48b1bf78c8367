// SPDX-License-Identifier: Apache-2.0
// Layers against PyTorch: outputs and gradients.
#include "golden/golden.hpp"
#include "mobilediffusion/layers/attention.hpp"
#include "mobilediffusion/layers/convolution.hpp"
#include "mobilediffusion/layers/feed_forward.hpp"
#include "mobilediffusion/layers/linear.hpp"
#include "mobilediffusion/layers/norm.hpp"

using namespace mobilediffusion;

namespace {

template <class Layer>
using Golden = golden::Case<typename Layer::Weights>;

template <LinearSpec S>
void linear(const char* name) {
  using Layer = Linear<S>;
  Golden<Layer> g("layers", name);
  constexpr std::size_t rows = golden::batch * 6;
  g.run(
      0, [&](Context& c, const auto& w) { Layer::forward(c, w, g.input("x"), g.output("y"), rows); },
      [&](Context& c, const auto& w, const auto& d) {
        Layer::backward(c, w, d, g.input("x"), g.cotangent("y"), g.assigned("x"), rows);
      });
}

template <ConvolutionSpec S>
void convolution(const char* name) {
  using Layer = Convolution<S>;
  Golden<Layer> g("layers", name);
  typename Layer::Saved saved;
  g.run(
      Layer::stack_floats(Plan::inference, golden::batch),
      [&](Context& c, const auto& w) { Layer::forward(c, w, g.input("x"), g.output("y"), saved); },
      [&](Context& c, const auto& w, const auto& d) { Layer::backward(c, w, d, saved, g.cotangent("y"), g.assigned("x")); });
}

template <AttentionSpec S>
void attention(const char* name) {
  using Layer = Attention<S>;
  constexpr bool self = S.queries == S.keys;
  Golden<Layer> g("layers", name);
  typename Layer::Saved saved;
  const auto context = [&] { return g.input(self ? "x" : "context"); };
  g.run(
      Layer::stack_floats(golden::batch),
      [&](Context& c, const auto& w) { Layer::forward(c, w, g.input("x"), context(), nullptr, g.output("y"), saved); },
      [&](Context& c, const auto& w, const auto& d) {
        float* dx = g.assigned("x");
        Layer::backward(c, w, d, saved, g.cotangent("y"), dx, self ? dx : g.added("context"));
      });
}

template <FeedForwardSpec S>
void feed_forward(const char* name) {
  using Layer = FeedForward<S>;
  constexpr std::size_t rows = golden::batch * 5;
  Golden<Layer> g("layers", name);
  typename Layer::Saved saved;
  g.run(
      Layer::stack_floats(rows),
      [&](Context& c, const auto& w) { Layer::forward(c, w, g.input("x"), nullptr, g.output("y"), rows, saved); },
      [&](Context& c, const auto& w, const auto& d) {
        Layer::backward(c, w, d, saved, g.cotangent("y"), g.assigned("x"), rows);
      });
}

template <GroupNormSpec S>
void group_norm(const char* name, float epsilon) {
  using Layer = GroupNorm<S>;
  Golden<Layer> g("layers", name);
  NormSaved saved;
  g.run(
      Layer::stack_floats(golden::batch),
      [&](Context& c, const auto& w) { Layer::forward(c, w, g.input("x"), g.output("y"), saved, epsilon); },
      [&](Context& c, const auto& w, const auto& d) {
        Layer::backward(c, w, d, saved, g.cotangent("y"), g.assigned("x"), false);
      });
}

}  // namespace

TEST_CASE("golden: linear layers equal PyTorch's") {
  linear<LinearSpec{.in = 13, .out = 35}>("linear");
  linear<LinearSpec{.in = 13, .out = 35, .bias = false}>("linear_no_bias");
  linear<LinearSpec{.in = 13, .out = 35, .conv = true}>("linear_1x1");
}

TEST_CASE("golden: convolutions equal PyTorch's") {
  convolution<ConvolutionSpec{.in = 6, .out = 10, .height = 6, .width = 4}>("conv");
  convolution<ConvolutionSpec{.in = 6, .out = 10, .height = 6, .width = 4, .stride = 2}>("conv_stride2");
  convolution<ConvolutionSpec{.in = 6, .out = 10, .height = 3, .width = 5, .upsample = true}>("conv_upsample");
  convolution<ConvolutionSpec{.in = 6, .out = 10, .height = 6, .width = 4, .stride = 2, .pad_end = true}>("conv_pad_end");
  convolution<ConvolutionSpec{.in = 6, .out = 10, .height = 6, .width = 4, .separable = true}>("separable");
  convolution<ConvolutionSpec{.in = 6, .out = 10, .height = 6, .width = 4, .stride = 2, .separable = true}>("separable_stride2");
  convolution<ConvolutionSpec{.in = 6, .out = 10, .height = 3, .width = 5, .upsample = true, .separable = true}>(
      "separable_upsample");
}

TEST_CASE("golden: norms equal PyTorch's") {
  group_norm<GroupNormSpec{.channels = 12, .groups = 3, .pixels = 15}>("group_norm", transformer_epsilon);
  group_norm<GroupNormSpec{.channels = 12, .groups = 3, .pixels = 15, .activation = Activation::silu}>("group_norm_silu",
                                                                                                       resnet_epsilon);
  using Layer = LayerNorm<20>;
  constexpr std::size_t rows = golden::batch * 7;
  Golden<Layer> g("layers", "layer_norm");
  NormSaved saved;
  g.run(
      Layer::stack_floats(rows),
      [&](Context& c, const auto& w) { Layer::forward(c, w, g.input("x"), g.output("y"), rows, saved); },
      [&](Context& c, const auto& w, const auto& d) {
        Layer::backward(c, w, d, saved, g.cotangent("y"), g.assigned("x"), rows, false);
      });
}

TEST_CASE("golden: attention equals PyTorch's") {
  constexpr AttentionSpec self{.width = 16, .heads = 2, .queries = 9, .keys = 9, .context_width = 16};
  constexpr AttentionSpec cross{.width = 24, .heads = 3, .queries = 9, .keys = 7, .context_width = 10};
  constexpr auto with = [](AttentionSpec s, std::size_t heads, bool shared_kv, AttentionKind kind, bool bias) {
    s.heads = heads, s.shared_kv = shared_kv, s.kind = kind, s.bias = bias;
    return s;
  };
  attention<self>("attention_self_shared");
  attention<with(self, 1, false, AttentionKind::softmax, true)>("attention_self_separate_bias");
  attention<with(self, 2, false, AttentionKind::relu, false)>("attention_self_separate_relu");
  attention<cross>("attention_cross_shared");
  attention<with(cross, 1, false, AttentionKind::softmax, false)>("attention_cross_separate");
  attention<with(cross, 3, true, AttentionKind::relu, false)>("attention_cross_shared_relu");
}

TEST_CASE("golden: feed-forward layers equal PyTorch's") {
  feed_forward<FeedForwardSpec{.width = 12, .ratio = 6, .activation = Activation::silu}>("feed_forward_silu");
  feed_forward<FeedForwardSpec{.width = 12, .ratio = 8, .activation = Activation::gelu}>("feed_forward_gelu");
}
