// SPDX-License-Identifier: Apache-2.0
// Gradients of every layer against differences of its output.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/layers/attention.hpp"
#include "mobilediffusion/layers/convolution.hpp"
#include "mobilediffusion/layers/feed_forward.hpp"
#include "mobilediffusion/layers/linear.hpp"
#include "mobilediffusion/layers/norm.hpp"

using namespace mobilediffusion;
using namespace gradient_tests;

namespace {

constexpr std::size_t batch = 2;

template <LinearSpec S>
std::string linear() {
  using Layer = Linear<S>;
  using W = typename Layer::Weights;
  constexpr std::size_t rows = 7;
  const float* saved = nullptr;
  return check_gradients<W>(
      {{"x", rows * S.in}}, {rows * S.out},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) {
        Layer::forward(c, w, x[0], y[0], rows);
        saved = x[0];
      },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Layer::backward(c, w, g, saved, dy[0], dx[0], rows);
      });
}

template <ConvolutionSpec S>
std::string convolution() {
  using Layer = Convolution<S>;
  using W = typename Layer::Weights;
  typename Layer::Saved saved;
  return check_gradients<W>(
      {{"x", batch * Layer::in_pixels * S.in}}, {batch * Layer::out_pixels * S.out},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) { Layer::forward(c, w, x[0], y[0], saved); },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Layer::backward(c, w, g, saved, dy[0], dx[0]);
      });
}

template <GroupNormSpec S>
std::string group_norm() {
  using Layer = GroupNorm<S>;
  using W = typename Layer::Weights;
  NormSaved saved;
  return check_gradients<W>(
      {{"x", batch * S.pixels * S.channels}}, {batch * S.pixels * S.channels},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) {
        Layer::forward(c, w, x[0], y[0], saved, resnet_epsilon);
      },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Layer::backward(c, w, g, saved, dy[0], dx[0], false);
      });
}

// The same, its gradient added to one that is there: as behind a residual connection.
template <GroupNormSpec S>
std::string group_norm_added() {
  using Layer = GroupNorm<S>;
  using W = typename Layer::Weights;
  NormSaved saved;
  return check_gradients<W>(
      {{"x", batch * S.pixels * S.channels, Adjoint::added}}, {batch * S.pixels * S.channels},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) {
        Layer::forward(c, w, x[0], y[0], saved, resnet_epsilon);
      },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Layer::backward(c, w, g, saved, dy[0], dx[0], true);
      });
}

template <std::size_t Channels>
std::string layer_norm(bool accumulate) {
  using Layer = LayerNorm<Channels>;
  using W = typename Layer::Weights;
  constexpr std::size_t rows = 9;
  NormSaved saved;
  return check_gradients<W>(
      {{"x", rows * Channels, accumulate ? Adjoint::added : Adjoint::assigned}}, {rows * Channels},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) { Layer::forward(c, w, x[0], y[0], rows, saved); },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Layer::backward(c, w, g, saved, dy[0], dx[0], rows, accumulate);
      });
}

template <AttentionSpec S>
std::string attention(double step = 0.01) {
  using Layer = Attention<S>;
  using W = typename Layer::Weights;
  typename Layer::Saved saved;
  const std::size_t x_floats = batch * S.queries * S.width, context = batch * S.keys * S.context_width;
  return check_gradients<W>(
      {{"x", x_floats}, {"context", context, Adjoint::added}, {"residual", x_floats, Adjoint::none}}, {x_floats},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) { Layer::forward(c, w, x[0], x[1], x[2], y[0], saved); },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Layer::backward(c, w, g, saved, dy[0], dx[0], dx[1]);
      },
      {.step = step});
}

// Queries, keys and values from the same tokens: one buffer for both gradients.
template <AttentionSpec S>
std::string self_attention() {
  static_assert(S.queries == S.keys && S.width == S.context_width);
  using Layer = Attention<S>;
  using W = typename Layer::Weights;
  typename Layer::Saved saved;
  const std::size_t floats = batch * S.queries * S.width;
  return check_gradients<W>(
      {{"x", floats}}, {floats},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) {
        Layer::forward(c, w, x[0], x[0], nullptr, y[0], saved);
      },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Layer::backward(c, w, g, saved, dy[0], dx[0], dx[0]);
      });
}

template <Activation A>
std::string feed_forward(std::size_t rows, double step = 0.01) {
  using Layer = FeedForward<FeedForwardSpec{.width = 8, .ratio = 6, .activation = A}>;
  using W = typename Layer::Weights;
  typename Layer::Saved saved;
  const std::size_t floats = rows * 8;
  return check_gradients<W>(
      {{"x", floats}, {"residual", floats, Adjoint::none}}, {floats},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) { Layer::forward(c, w, x[0], x[1], y[0], rows, saved); },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Layer::backward(c, w, g, saved, dy[0], dx[0], rows);
      },
      {.step = step});
}

constexpr double kinked = 0.001;  // where a derivative jumps, a long step crosses too many places

}  // namespace

TEST_CASE("gradients of a linear layer") {
  CHECK(linear<LinearSpec{.in = 5, .out = 11}>() == "");
  CHECK(linear<LinearSpec{.in = 40, .out = 33, .bias = false}>() == "");
  CHECK(linear<LinearSpec{.in = 6, .out = 3, .conv = true}>() == "");
}

TEST_CASE("gradients of a convolution") {
  CHECK(convolution<ConvolutionSpec{.in = 5, .out = 7, .height = 4, .width = 6}>() == "");
  CHECK(convolution<ConvolutionSpec{.in = 5, .out = 7, .height = 4, .width = 6, .stride = 2}>() == "");
  CHECK(convolution<ConvolutionSpec{.in = 5, .out = 7, .height = 4, .width = 6, .stride = 2, .pad_end = true}>() == "");
  CHECK(convolution<ConvolutionSpec{.in = 5, .out = 7, .height = 3, .width = 2, .upsample = true}>() == "");
}

TEST_CASE("gradients of a separable convolution") {
  CHECK(convolution<ConvolutionSpec{.in = 5, .out = 7, .height = 4, .width = 6, .separable = true}>() == "");
  CHECK(convolution<ConvolutionSpec{.in = 20, .out = 7, .height = 4, .width = 6, .stride = 2, .separable = true}>() == "");
  CHECK(convolution<ConvolutionSpec{.in = 5, .out = 7, .height = 3, .width = 2, .upsample = true, .separable = true}>() == "");
}

TEST_CASE("gradients of the norms") {
  CHECK(group_norm<GroupNormSpec{.channels = 12, .groups = 3, .pixels = 10}>() == "");
  CHECK(group_norm<GroupNormSpec{.channels = 12, .groups = 3, .pixels = 10, .activation = Activation::silu}>() == "");
  CHECK(group_norm<GroupNormSpec{.channels = 12, .groups = 0, .pixels = 10, .activation = Activation::silu}>() == "");
  CHECK(group_norm_added<GroupNormSpec{.channels = 40, .groups = 5, .pixels = 6}>() == "");
  CHECK(group_norm_added<GroupNormSpec{.channels = 40, .groups = 5, .pixels = 6, .activation = Activation::silu}>() == "");
  CHECK(group_norm_added<GroupNormSpec{.channels = 40, .groups = 0, .pixels = 6, .activation = Activation::silu}>() == "");
  CHECK(layer_norm<24>(false) == "");
  CHECK(layer_norm<24>(true) == "");
}

TEST_CASE("gradients of attention") {
  constexpr AttentionSpec cross{.width = 16, .heads = 2, .queries = 6, .keys = 5, .context_width = 12};
  constexpr AttentionSpec separate{.width = 16, .heads = 2, .queries = 6, .keys = 5, .context_width = 12, .shared_kv = false};
  constexpr AttentionSpec relu{
      .width = 24, .heads = 1, .queries = 6, .keys = 5, .context_width = 12, .kind = AttentionKind::relu};
  constexpr AttentionSpec relu_separate{
      .width = 16, .heads = 2, .queries = 3, .keys = 20, .context_width = 9, .shared_kv = false, .kind = AttentionKind::relu};
  CHECK(attention<cross>() == "");
  CHECK(attention<separate>() == "");
  CHECK(attention<relu>(kinked) == "");
  CHECK(attention<relu_separate>(kinked) == "");
  constexpr AttentionSpec self{.width = 16, .heads = 2, .queries = 6, .keys = 6, .context_width = 16};
  constexpr AttentionSpec self_separate{
      .width = 16, .heads = 1, .queries = 6, .keys = 6, .context_width = 16, .shared_kv = false, .bias = true};
  CHECK(self_attention<self>() == "");
  CHECK(self_attention<self_separate>() == "");
}

TEST_CASE("gradients of the gated feed-forward") {
  CHECK(feed_forward<Activation::silu>(5) == "");
  CHECK(feed_forward<Activation::gelu>(5) == "");
  CHECK(feed_forward<Activation::quick_gelu>(5) == "");
  CHECK(feed_forward<Activation::none>(5) == "");
  CHECK(feed_forward<Activation::relu>(5, kinked) == "");
}
