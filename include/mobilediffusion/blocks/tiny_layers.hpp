// SPDX-License-Identifier: Apache-2.0
// diffusers' EncoderTiny and DecoderTiny as sequences: 3x3 convolutions and residual blocks of three, with ReLU and no norms.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "../core/unroll.hpp"
#include "../kernels/kernels.hpp"
#include "../layers/convolution.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// none: has a number in the sequence and no weights; the ReLU behind a convolution or the doubling before it, which it does.
enum class TinyLayerKind { none, convolution, block };

struct TinyLayerSpec {
  TinyLayerKind kind = TinyLayerKind::none;
  std::size_t in = 0, out = 0;
  std::size_t height = 0, width = 0;  // of the input
  std::size_t stride = 1;
  bool upsample = false;  // doubles the picture first
  bool bias = true;
  bool relu = false;  // behind the convolution
};

template <TinyLayerSpec S>
struct TinyLayer {
  using Weights = Absent;
  using Saved = Absent;
};

template <TinyLayerSpec S>
requires(S.kind == TinyLayerKind::convolution) struct TinyLayer<S> {
  using Conv = Convolution<ConvolutionSpec{.in = S.in,
                                           .out = S.out,
                                           .height = S.height,
                                           .width = S.width,
                                           .stride = S.stride,
                                           .upsample = S.upsample,
                                           .bias = S.bias}>;
  using Weights = typename Conv::Weights;
  struct Saved {
    typename Conv::Saved conv;
    const float* y = nullptr;
  };
  static constexpr std::size_t height = Conv::out_height, width = Conv::out_width;
  static constexpr std::size_t output_floats = Conv::out_pixels * S.out;  // per image
  static constexpr std::size_t macs = Conv::macs;
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) { return Conv::stack_floats(plan, batch); }
  static constexpr std::size_t backward_floats(std::size_t batch) {
    return (S.relu ? aligned(batch * output_floats) : 0) + Conv::backward_floats(batch);
  }
  // x [batch][height][width][in] -> y, batch * output_floats
  static void forward(Context& c, const Weights& w, const float* x, float* y, Saved& s) {
    Conv::forward(c, w, x, y, s.conv);
    if constexpr (S.relu) kernels::activate(c.executor, Activation::relu, y, y, c.batch * output_floats);
    s.y = y;
  }
  // dx (nullable) is assigned.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* dy, float* dx) {
    Scope scope(c.stack);
    if constexpr (S.relu) {
      float* d = c.stack.take(c.batch * output_floats);
      kernels::activate_backward(c.executor, Activation::relu, s.y, dy, d, c.batch * output_floats);
      dy = d;
    }
    Conv::backward(c, w, g, s.conv, dy, dx);
  }
};

// diffusers' AutoencoderTinyBlock: relu(conv4(relu(conv2(relu(conv0(x))))) + x).
template <TinyLayerSpec S>
requires(S.kind == TinyLayerKind::block) struct TinyLayer<S> {
  using Conv = Convolution<ConvolutionSpec{.in = S.in, .out = S.in, .height = S.height, .width = S.width}>;
  struct Weights {
    std::tuple<typename Conv::Weights, Absent, typename Conv::Weights, Absent, typename Conv::Weights> conv;
  };
  struct Saved {
    std::array<typename Conv::Saved, 3> conv;
    const float *a = nullptr, *b = nullptr, *y = nullptr;
  };
  static constexpr std::size_t height = S.height, width = S.width;
  static constexpr std::size_t output_floats = S.height * S.width * S.in;  // per image
  static constexpr std::size_t macs = 3 * Conv::macs;
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    Planned p{plan};
    p.take(batch * output_floats);
    if (plan == Plan::training) p.take(batch * output_floats);
    return p.part(Conv::stack_floats(plan, batch)).peak;
  }
  static constexpr std::size_t backward_floats(std::size_t batch) {
    return 3 * aligned(batch * output_floats) + Conv::backward_floats(batch);
  }
  // x, y: [batch][height][width][in]
  static void forward(Context& c, const Weights& w, const float* x, float* y, Saved& s) {
    Scope scope(c.stack);
    const std::size_t floats = c.batch * output_floats;
    float* b = c.stack.take(floats);
    float* a = c.stack.keeps() ? c.stack.take(floats) : y;  // y is free until the end
    Conv::forward(c, std::get<0>(w.conv), x, a, s.conv[0]);
    relu(c, a);
    Conv::forward(c, std::get<2>(w.conv), a, b, s.conv[1]);
    relu(c, b);
    kernels::Epilogue plus_x;
    plus_x.residual = x;
    plus_x.residual_ld = S.in;
    Conv::forward(c, std::get<4>(w.conv), b, y, s.conv[2], plus_x);
    relu(c, y);
    s.a = a;
    s.b = b;
    s.y = y;
  }
  // dx is assigned.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* dy, float* dx) {
    Scope scope(c.stack);
    const std::size_t floats = c.batch * output_floats;
    float *d = c.stack.take(floats), *db = c.stack.take(floats), *da = c.stack.take(floats);
    const auto relu_backward = [&](const float* y, const float* from, float* to) {
      kernels::activate_backward(c.executor, Activation::relu, y, from, to, floats);
    };
    relu_backward(s.y, dy, d);
    Conv::backward(c, std::get<4>(w.conv), std::get<4>(g.conv), s.conv[2], d, db);
    relu_backward(s.b, db, db);
    Conv::backward(c, std::get<2>(w.conv), std::get<2>(g.conv), s.conv[1], db, da);
    relu_backward(s.a, da, da);
    Conv::backward(c, std::get<0>(w.conv), std::get<0>(g.conv), s.conv[0], da, dx);
    kernels::add_to(c.executor, d, dx, floats);
  }

 private:
  static void relu(Context& c, float* x) {
    const Span span(c, {"activation", nullptr, 0, 8 * c.batch * output_floats});
    kernels::activate(c.executor, Activation::relu, x, x, c.batch * output_floats);
  }
};

// The layers of one half, the first and the last of which are convolutions.
template <std::size_t N, std::array<TinyLayerSpec, N> Specs>
struct TinyLayers {
  static constexpr std::size_t size = N;
  template <std::size_t I>
  using Layer = TinyLayer<Specs[I]>;
  template <std::size_t I>
  static constexpr bool computes = Specs[I].kind != TinyLayerKind::none;

 private:
  template <class Indices>
  struct Tuples;
  template <std::size_t... I>
  struct Tuples<std::index_sequence<I...>> {
    using Weights = std::tuple<typename Layer<I>::Weights...>;
    using Saved = std::tuple<typename Layer<I>::Saved...>;
  };
  using All = Tuples<std::make_index_sequence<N>>;

  // What stands between two layers lies in two buffers by turns, unless it is kept. Floats of each, per image.
  static constexpr std::array<std::size_t, 2> turns = [] {
    std::array<std::size_t, 2> floats{};
    std::size_t turn = 0;
    unroll<N - 1>([&]<std::size_t I>(Index<I>) {
      if constexpr (computes<I>) {
        floats[turn] = std::max(floats[turn], Layer<I>::output_floats);
        turn = 1 - turn;
      }
    });
    return floats;
  }();
  static constexpr std::size_t largest = std::max(turns[0], turns[1]);

 public:
  struct Weights {
    typename All::Weights layers;
  };
  using Saved = typename All::Saved;

  static constexpr std::size_t output_floats = Layer<N - 1>::output_floats;  // per image
  static constexpr std::size_t macs = [] {
    std::size_t total = 0;
    unroll<N>([&]<std::size_t I>(Index<I>) {
      if constexpr (computes<I>) total += Layer<I>::macs;
    });
    return total;
  }();
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    Planned p{plan};
    if (plan == Plan::inference) p.take(batch * turns[0]).take(batch * turns[1]);
    unroll<N>([&]<std::size_t I>(Index<I>) {
      if constexpr (computes<I>) {
        if (plan == Plan::training && I + 1 < N) p.take(batch * Layer<I>::output_floats);
        p.part(Layer<I>::stack_floats(plan, batch));
      }
    });
    return p.peak;
  }
  static constexpr std::size_t backward_floats(std::size_t batch) {
    Planned p{Plan::inference};
    p.take(batch * largest).take(batch * largest);
    unroll<N>([&]<std::size_t I>(Index<I>) {
      if constexpr (computes<I>) p.part(Layer<I>::backward_floats(batch));
    });
    return p.peak;
  }

  // x [batch][height][width][in] of the first -> y, batch * output_floats
  static void forward(Context& c, const Weights& w, const float* x, float* y, Saved& s) {
    Scope scope(c.stack);
    const bool keeps = c.stack.keeps();
    std::array<float*, 2> buffers{};
    if (!keeps)
      for (std::size_t i = 0; i < 2; ++i) buffers[i] = c.stack.take(c.batch * turns[i]);
    std::size_t turn = 0;
    unroll<N>([&]<std::size_t I>(Index<I>) {
      if constexpr (computes<I>) {
        float* out = I + 1 == N ? y : keeps ? c.stack.take(c.batch * Layer<I>::output_floats) : buffers[turn];
        Layer<I>::forward(c, std::get<I>(w.layers), x, out, std::get<I>(s));
        x = out;
        turn = 1 - turn;
      }
    });
  }
  // dx (nullable) is assigned.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* dy, float* dx) {
    Scope scope(c.stack);
    const std::array<float*, 2> buffers{c.stack.take(c.batch * largest), c.stack.take(c.batch * largest)};
    std::size_t turn = 0;
    unroll_reversed<N>([&]<std::size_t I>(Index<I>) {
      if constexpr (computes<I>) {
        float* below = I == 0 ? dx : buffers[turn];
        Layer<I>::backward(c, std::get<I>(w.layers), std::get<I>(g.layers), std::get<I>(s), dy, below);
        dy = below;
        turn = 1 - turn;
      }
    });
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
