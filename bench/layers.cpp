// SPDX-License-Identifier: Apache-2.0
// Single layers and blocks at the sizes of the preset full, as inference runs them, and a training step of two blocks of emoji,
// against what the machine can do, measured in the same run.
//
//   bench_layers [--threads N] [options of Google Benchmark: --benchmark_filter=resnet/.*/bf16, --benchmark_out=FILE, ...]
//
// Timed and counted as bench/kernels.cpp does. Weights of one layer may stay in the caches, those of a model do not.
#include <string>
#include <string_view>

#include "against_peak.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/core/random.hpp"
#include "mobilediffusion/core/unroll.hpp"
#include "mobilediffusion/models/unet.hpp"
#include "random_weights.hpp"

namespace {

namespace md = mobilediffusion;
namespace kernels = mobilediffusion::kernels;
using md::AlignedBuffer;
using md::Context;
using md::Executor;
using md::Format;

using bench::Bench;
using bench::Work;

AlignedBuffer values(std::size_t floats) {
  AlignedBuffer b(floats);
  md::Random(1, floats).normals(b.span());
  return b;
}

// What a layer reads and writes: floats of its input, of the context or time embedding, of its output, and of its locals.
struct Sizes {
  std::size_t in, other, out, stack;
};

// pass(context, weights, x, other, y), in the three formats; a layer without products in fp32 alone.
template <class Layer, class Pass>
void add_layer(const Bench& b, const std::string& name, std::size_t macs, const Sizes& s, Pass pass) {
  for (const Format format : {Format::fp32, Format::bf16, Format::int8}) {
    if (macs == 0 && format != Format::fp32) continue;
    b.add(name + "/" + md::name_of(format), {format, macs, 4 * (s.in + s.out)}, [=](const Executor& ex, auto&& loop) {
      const auto weights = bench::random_weights<typename Layer::Weights>(1, format);
      const AlignedBuffer x = values(s.in), other = values(s.other), y(s.out), memory(s.stack);
      loop([&] {
        md::Stack stack(memory);
        Context c{.executor = ex, .stack = stack, .batch = 1, .packed = true, .format = format};
        pass(c, weights.weights(), x.data(), other.data(), y.data());
      });
    });
  }
}

template <md::ConvolutionSpec S>
void add_convolution(const Bench& b, const std::string& name) {
  using Layer = md::Convolution<S>;
  add_layer<Layer>(b, name, Layer::macs,
                   {Layer::in_pixels * S.in, 0, Layer::out_pixels * S.out, Layer::stack_floats(md::Plan::inference, 1)},
                   [](Context& c, const auto& w, const float* x, const float*, float* y) {
                     typename Layer::Saved saved{};
                     Layer::forward(c, w, x, y, saved);
                   });
}

template <md::ResnetSpec S>
void add_resnet(const Bench& b, const std::string& name) {
  using Block = md::ResnetBlock<S>;
  add_layer<Block>(b, name, Block::macs,
                   {Block::pixels * S.in, S.time_width, Block::pixels * S.out, Block::stack_floats(md::Plan::inference, 1)},
                   [](Context& c, const auto& w, const float* x, const float* time, float* y) {
                     typename Block::Saved saved{};
                     Block::forward(c, w, x, time, y, saved);
                   });
}

template <md::TransformerSpec S>
void add_transformer(const Bench& b, const std::string& name) {
  using Block = md::TransformerBlock<S>;
  add_layer<Block>(
      b, name, Block::macs,
      {S.tokens * S.width, S.context_length * S.context_width, S.tokens * S.width, Block::stack_floats(md::Plan::inference, 1)},
      [](Context& c, const auto& w, const float* x, const float* context, float* y) {
        typename Block::Saved saved{};
        Block::forward(c, w, x, context, y, saved);
      });
}

template <class Layer, bool Self>
void add_attention(const Bench& b, const std::string& name, std::size_t tokens, std::size_t other) {
  add_layer<Layer>(b, name, Layer::macs, {tokens, other, tokens, Layer::stack_floats(1)},
                   [](Context& c, const auto& w, const float* x, const float* context, float* y) {
                     typename Layer::Saved saved{};
                     Layer::forward(c, w, x, Self ? x : context, x, y, saved);
                   });
}

enum class Kind { plain, separable, down, up };
constexpr md::ConvolutionSpec convolution(std::size_t side, std::size_t width, Kind kind) {
  return {.in = width,
          .out = width,
          .height = side,
          .width = side,
          .stride = std::size_t{kind == Kind::down ? 2u : 1u},
          .upsample = kind == Kind::up,
          .separable = kind == Kind::separable};
}
constexpr md::ResnetSpec resnet(const md::UnetConfig& c, std::size_t level, bool separable) {
  md::ResnetSpec s = md::lower::middle_resnet(c);
  s.in = s.out = c.stages[level].channels;
  s.height = c.height >> level;
  s.width = c.width >> level;
  s.separable1 = separable;
  return s;
}

// Every layer at every resolution, also where full leaves it out: what a layout would pay for it.
template <std::size_t Level>
void add_level(const Bench& b) {
  static constexpr md::UnetConfig unet = md::presets::full.unet;
  static constexpr std::size_t width = unet.stages[Level].channels, side = unet.height >> Level, rows = side * side;
  static constexpr md::TransformerSpec both = md::lower::transformer(unet, md::presets::full_blocks(1), Level),
                                       cross = md::lower::transformer(unet, md::presets::cross_only(1), Level);
  const std::string size = std::to_string(side) + "x" + std::to_string(side) + "x" + std::to_string(width);

  using Linear = md::Linear<md::LinearSpec{.in = width, .out = width}>;
  add_layer<Linear>(b, "linear/" + size, Linear::macs(rows), {rows * width, 0, rows * width, 0},
                    [](Context& c, const auto& w, const float* x, const float*, float* y) { Linear::forward(c, w, x, y, rows); });

  add_convolution<convolution(side, width, Kind::plain)>(b, "convolution/" + size);
  add_convolution<convolution(side, width, Kind::separable)>(b, "convolution_separable/" + size);
  add_convolution<convolution(side, width, Kind::down)>(b, "convolution_down/" + size);
  if constexpr (Level > 0) add_convolution<convolution(side, width, Kind::up)>(b, "convolution_up/" + size);
  add_resnet<resnet(unet, Level, false)>(b, "resnet/" + size);
  add_resnet<resnet(unet, Level, true)>(b, "resnet_separable/" + size);
  add_transformer<both>(b, "transformer/" + size);
  add_transformer<cross>(b, "transformer_cross_only/" + size);
  using Block = md::TransformerBlock<both>;
  constexpr std::size_t caption = unet.context_length * unet.context_width;
  add_attention<typename Block::SelfAttention, true>(b, "self_attention/" + size, rows * width, 0);
  add_attention<typename Block::CrossAttention, false>(b, "cross_attention/" + size, rows * width, caption);
  add_layer<typename Block::Mlp>(b, "feed_forward/" + size, Block::Mlp::macs(rows),
                                 {rows * width, 0, rows * width, Block::Mlp::stack_floats(rows)},
                                 [](Context& c, const auto& w, const float* x, const float*, float* y) {
                                   typename Block::Mlp::Saved saved{};
                                   Block::Mlp::forward(c, w, x, x, y, rows, saved);
                                 });
  using Norm = md::GroupNorm<md::GroupNormSpec{
      .channels = width, .groups = unet.groups, .pixels = rows, .activation = md::Activation::silu}>;
  add_layer<Norm>(b, "group_norm/" + size, 0, {rows * width, 0, rows * width, Norm::stack_floats(1)},
                  [](Context& c, const auto& w, const float* x, const float*, float* y) {
                    md::NormSaved saved{};
                    Norm::forward(c, w, x, y, saved, md::resnet_epsilon);
                  });
}

// Forward and backward of a block with weights as training keeps them, products in bf16. A backward pass counts as twice the
// forward's. step(context, weights, gradients, saved, dy, dx, d_other).
template <class Block, class Step>
void add_training(const Bench& b, const std::string& name, std::size_t floats, std::size_t other_floats, Step step) {
  constexpr std::size_t batch = 16;
  b.add("training/" + name, {Format::bf16, 3 * batch * Block::macs}, [=](const Executor& ex, auto&& loop) {
    const std::size_t stored = md::reflect::storage_floats<typename Block::Weights>();
    const AlignedBuffer weight_memory(stored), gradient_memory(stored);
    auto weights = md::reflect::bind<typename Block::Weights>(weight_memory.data());
    const auto gradients = md::reflect::bind<typename Block::Weights>(gradient_memory.data());
    md::train::initialize(weights, 1, {.zero_branches = false});
    const AlignedBuffer x = values(batch * floats), other = values(batch * other_floats), dy = values(batch * floats),
                        y(batch * floats), d(batch * floats), d_other(batch * other_floats),
                        memory(Block::stack_floats(md::Plan::training, batch) + Block::backward_floats(batch));
    loop([&] {
      md::Stack stack(memory);
      stack.keep(true);
      Context c{.executor = ex, .stack = stack, .batch = batch, .packed = false};
      typename Block::Saved saved{};
      Block::forward(c, weights, x.data(), other.data(), y.data(), saved);
      stack.keep(false);
      step(c, weights, gradients, saved, dy.data(), d.data(), d_other.data());
    });
  });
}

void add_training_blocks(const Bench& b) {
  static constexpr md::UnetConfig unet = md::presets::emoji.unet;
  using Resnet = md::ResnetBlock<md::resnet_spec(md::lower::down(unet, 0), 0)>;
  add_training<Resnet>(b, "resnet/16x16x96", Resnet::pixels * unet.stages[0].channels, md::lower::time_width(unet),
                       [](Context& c, const auto& w, const auto& g, const auto& saved, const float* dy, float* d, float* d_time) {
                         Resnet::backward(c, w, g, saved, dy, d, d_time);
                       });
  static constexpr md::TransformerSpec spec = md::lower::transformer(unet, md::presets::full_blocks(1), 2);
  using Transformer = md::TransformerBlock<spec>;
  add_training<Transformer>(
      b, "transformer/4x4x320", spec.tokens * spec.width, spec.context_length * spec.context_width,
      [](Context& c, const auto& w, const auto& g, const auto& saved, const float* dy, float* d, float* d_context) {
        kernels::copy(c.executor, dy, d, c.batch * spec.tokens * spec.width);  // becomes the input's gradient in place
        Transformer::backward(c, w, g, saved, d, d_context);
      });
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_against_peak("bench_layers", argc, argv, [](const Bench& b) {
    md::unroll<md::presets::full.unet.levels>([&]<std::size_t L>(md::Index<L>) { add_level<L>(b); });
    add_training_blocks(b);
  });
}
