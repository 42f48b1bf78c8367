// SPDX-License-Identifier: Apache-2.0
// Gradients of the blocks and stages against differences of their outputs.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/models/vae.hpp"

using namespace mobilediffusion;
using namespace gradient_tests;

namespace {

constexpr std::size_t batch = 2;

template <ResnetSpec S>
std::string resnet() {
  using Block = ResnetBlock<S>;
  using W = typename Block::Weights;
  typename Block::Saved saved;
  std::vector<Input> inputs{{"x", batch * Block::pixels * S.in}};
  if (S.time_width > 0) inputs.push_back({"time", batch * S.time_width, Adjoint::added});
  return check_gradients<W>(
      inputs, {batch * Block::pixels * S.out},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) {
        Block::forward(c, w, x[0], S.time_width > 0 ? x[1] : nullptr, y[0], saved);
      },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Block::backward(c, w, g, saved, dy[0], dx[0], S.time_width > 0 ? dx[1] : nullptr);
      },
      {.backward_floats = Block::backward_floats(batch)});
}

template <TransformerSpec S>
std::string transformer_block() {
  using Block = TransformerBlock<S>;
  using W = typename Block::Weights;
  typename Block::Saved saved;
  const std::size_t floats = batch * S.tokens * S.width;
  std::vector<Input> inputs{{"x", floats}};
  if (S.cross_attention) inputs.push_back({"context", batch * S.context_length * S.context_width, Adjoint::added});
  return check_gradients<W>(
      inputs, {floats},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) {
        Block::forward(c, w, x[0], S.cross_attention ? x[1] : nullptr, y[0], saved);
      },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {  // in place: dy becomes dx
        Block::backward(c, w, g, saved, dy[0], S.cross_attention ? dx[1] : nullptr);
        std::copy_n(dy[0], floats, dx[0]);
      },
      {.backward_floats = Block::backward_floats(batch)});
}

template <TransformerSpec S>
std::string transformer() {
  using Block = Transformer2D<S>;
  using W = typename Block::Weights;
  typename Block::Saved saved;
  const std::size_t floats = batch * S.tokens * S.width;
  return check_gradients<W>(
      {{"x", floats}, {"context", batch * S.context_length * S.context_width, Adjoint::added}}, {floats},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) { Block::forward(c, w, x[0], x[1], y[0], saved); },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Block::backward(c, w, g, saved, dy[0], dx[0], dx[1]);
      },
      {.backward_floats = Block::backward_floats(batch)});
}

template <StageSpec S>
std::string down_stage() {
  using Stage = DownStage<S>;
  using W = typename Stage::Weights;
  typename Stage::Saved saved;
  std::vector<std::size_t> outputs;
  for (std::size_t i = 0; i < Stage::outputs; ++i) outputs.push_back(batch * Stage::output_floats(i));
  return check_gradients<W>(
      {{"x", batch * Stage::pixels * S.in},
       {"time", batch * S.time_width, Adjoint::added},
       {"context", batch * 3 * 8, Adjoint::added}},
      outputs,
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) {
        Stage::forward(c, w, x[0], x[1], x[2], y.data(), saved);
      },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Stage::backward(c, w, g, saved, dy.data(), dx[0], dx[1], dx[2]);
      },
      {.backward_floats = Stage::backward_floats(batch)});
}

template <StageSpec S>
std::string up_stage() {
  using Stage = UpStage<S>;
  using W = typename Stage::Weights;
  typename Stage::Saved saved;
  std::vector<Input> inputs{{"x", batch * Stage::pixels * S.in},
                            {"time", batch * S.time_width, Adjoint::added},
                            {"context", batch * 3 * 8, Adjoint::added}};
  for (std::size_t i = 0; i < S.resnets; ++i) inputs.push_back({"skip " + std::to_string(i), batch * Stage::pixels * S.skips[i]});
  return check_gradients<W>(
      inputs, {batch * Stage::output_floats},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) {
        const std::vector<const float*> skips(x.begin() + 3, x.end());
        Stage::forward(c, w, x[0], skips.data(), x[1], x[2], y[0], saved);
      },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Stage::backward(c, w, g, saved, dy[0], dx[0], dx.data() + 3, dx[1], dx[2]);
      },
      {.backward_floats = Stage::backward_floats(batch)});
}

template <VaeMiddleSpec S>
std::string vae_middle() {
  using Block = VaeMiddle<S>;
  using W = typename Block::Weights;
  typename Block::Saved saved;
  const std::size_t floats = batch * S.height * S.width * S.channels;
  return check_gradients<W>(
      {{"x", floats}}, {floats},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) { Block::forward(c, w, x[0], y[0], saved); },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Block::backward(c, w, g, saved, dy[0], dx[0]);
      },
      {.backward_floats = Block::backward_floats(batch)});
}

constexpr TransformerSpec block{
    .depth = 1, .width = 16, .heads = 2, .tokens = 6, .groups = 4, .context_length = 3, .context_width = 8};

constexpr TransformerSpec with(TransformerSpec s, auto&& change) {
  change(s);
  return s;
}

constexpr StageSpec down{.height = 4,
                         .width = 2,
                         .in = 8,
                         .channels = 16,
                         .resnets = 2,
                         .transformers = {TransformerSpec{}, with(block, [](TransformerSpec& s) { s.tokens = 8; })},
                         .groups = 4,
                         .time_width = 6,
                         .sampler = true};
constexpr StageSpec up{.height = 4,
                       .width = 2,
                       .in = 12,
                       .channels = 16,
                       .resnets = 2,
                       .skips = {16, 8},
                       .transformers = {with(block, [](TransformerSpec& s) { s.tokens = 8; }), TransformerSpec{}},
                       .groups = 4,
                       .time_width = 6,
                       .sampler = true};
constexpr StageSpec with(StageSpec s, auto&& change) {
  change(s);
  return s;
}

}  // namespace

TEST_CASE("gradients of the residual block") {
  CHECK(resnet<ResnetSpec{.in = 8, .out = 8, .height = 3, .width = 4, .groups = 4, .time_width = 6}>() == "");
  CHECK(resnet<ResnetSpec{.in = 8, .out = 12, .height = 3, .width = 4, .groups = 4, .time_width = 6}>() == "");
  CHECK(resnet<ResnetSpec{.in = 12, .out = 8, .height = 3, .width = 4, .groups = 4}>() == "");
  CHECK(resnet<ResnetSpec{.in = 8, .out = 8, .height = 3, .width = 4, .groups = 4}>() == "");
  CHECK(resnet<ResnetSpec{.in = 8, .out = 12, .height = 3, .width = 4, .groups = 4, .time_width = 6, .separable1 = true}>() ==
        "");
  CHECK(
      resnet<ResnetSpec{
          .in = 8, .out = 8, .height = 3, .width = 4, .groups = 4, .time_width = 6, .separable1 = true, .separable2 = true}>() ==
      "");
  CHECK(resnet<ResnetSpec{.in = 8, .out = 12, .height = 3, .width = 4, .groups = 0}>() == "");
}

TEST_CASE("gradients of the transformer block") {
  CHECK(transformer_block<block>() == "");
  CHECK(transformer_block<with(block, [](TransformerSpec& s) { s.self_attention = false; })>() == "");
  CHECK(transformer_block<with(block, [](TransformerSpec& s) { s.cross_attention = false; })>() == "");
  CHECK(transformer_block<with(block, [](TransformerSpec& s) { s.self_attention = s.cross_attention = false; })>() == "");
  CHECK(transformer_block<with(
            block, [](TransformerSpec& s) { s.shared_kv = false, s.ratio = 8, s.activation = Activation::gelu; })>() == "");
}

TEST_CASE("gradients of the transformer stack") {
  CHECK(transformer<block>() == "");
  CHECK(transformer<with(block, [](TransformerSpec& s) { s.depth = 2, s.projections = false; })>() == "");
  CHECK(transformer<with(block, [](TransformerSpec& s) { s.linear_projections = s.position_embedding = true; })>() == "");
  CHECK(transformer<with(block, [](TransformerSpec& s) { s.projections = false, s.position_embedding = true; })>() == "");
}

TEST_CASE("gradients of a stage on the way down") {
  CHECK(down_stage<down>() == "");
  CHECK(down_stage<with(down, [](StageSpec& s) { s.separable1 = s.separable2 = s.separable_sampler = true; })>() == "");
  CHECK(down_stage<with(down, [](StageSpec& s) { s.sampler = false; })>() == "");
}

TEST_CASE("gradients of a stage on the way up") {
  CHECK(up_stage<up>() == "");
  CHECK(up_stage<with(up, [](StageSpec& s) { s.separable1 = s.separable2 = s.separable_sampler = true; })>() == "");
  CHECK(up_stage<with(up, [](StageSpec& s) { s.sampler = false; })>() == "");
}

TEST_CASE("gradients of the VAE's middle") {
  CHECK(vae_middle<VaeMiddleSpec{16, 3, 4, 4, true}>() == "");
  CHECK(vae_middle<VaeMiddleSpec{12, 3, 4, 4, false}>() == "");
}
