// SPDX-License-Identifier: Apache-2.0
// Multi-head attention with diffusers' projections; MobileDiffusion shares the key and value projection (to_kv).
#pragma once

#include "../core/begin.hpp"

#include <cmath>
#include <tuple>

#include "../kernels/kernels.hpp"
#include "linear.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct AttentionSpec {
  std::size_t width, heads;
  std::size_t queries, keys;  // tokens
  std::size_t context_width;  // of what keys and values are made from
  bool shared_kv = true;
  AttentionKind kind = AttentionKind::softmax;
  bool bias = false;  // of the three input projections (the VAE has them)
};

// What keys and values are made of: [batch][tokens][context_width]. tokens: at most the specification's keys; 0: as many.
struct AttentionContext {
  const float* data;
  std::size_t tokens;
  AttentionContext(const float* rows, std::size_t count = 0) : data(rows), tokens(count) {}
};

template <AttentionSpec S>
struct Attention {
  static_assert(
      S.heads > 0 && S.width % S.heads == 0,
      "mobilediffusion: attention width must be a multiple of its heads; change `head_dim`, `heads` or the stage's channels");
  static_assert(
      S.width / S.heads % 8 == 0,
      "mobilediffusion: a head's dimension must be a multiple of 8; change `head_dim`, `heads` or the stage's channels");
  using ToQ = Linear<LinearSpec{.in = S.width, .out = S.width, .bias = S.bias}>;
  using ToKV = Linear<LinearSpec{.in = S.context_width, .out = S.width, .bias = S.bias}>;
  using ToOut = Linear<LinearSpec{.in = S.width, .out = S.width}>;

  struct SharedWeights {
    typename ToQ::Weights to_q;
    typename ToKV::Weights to_kv;
    std::tuple<typename ToOut::Weights> to_out;
  };
  struct SeparateWeights {
    typename ToQ::Weights to_q;
    typename ToKV::Weights to_k, to_v;
    std::tuple<typename ToOut::Weights> to_out;
  };
  using Weights = std::conditional_t<S.shared_kv, SharedWeights, SeparateWeights>;
  struct Saved {
    const float *x = nullptr, *context = nullptr, *q = nullptr, *k = nullptr, *v = nullptr, *y = nullptr, *log_sum_exp = nullptr;
    std::size_t keys = 0;
  };

  static constexpr std::size_t macs = ToQ::macs(S.queries) + ToKV::macs(S.keys) * (S.shared_kv ? 1 : 2) + ToOut::macs(S.queries) +
                                      2 * S.queries * S.keys * S.width;
  static constexpr std::size_t stack_floats(std::size_t batch) {
    return 2 * aligned(batch * S.queries * S.width) + (S.shared_kv ? 1 : 2) * aligned(batch * S.keys * S.width) +
           aligned(batch * S.heads * S.queries);
  }

  // What backward takes of the stack.
  static constexpr std::size_t backward_floats(std::size_t batch) {
    return 2 * aligned(batch * S.queries * S.width) + (S.shared_kv ? 1 : 2) * aligned(batch * S.keys * S.width);
  }

  static kernels::AttentionShape shape(std::size_t batch, std::size_t keys, bool bf16 = false) {
    return {.batch = batch,
            .queries = S.queries,
            .keys = keys,
            .heads = S.heads,
            .head_dim = S.width / S.heads,
            .causal = false,
            .kind = S.kind,
            .scale = 1.0f / std::sqrt(static_cast<float>(S.width / S.heads)),
            .bf16 = bf16};
  }

  // x [batch][queries][width], context [batch][tokens][context_width] -> out = to_out(attention) + residual.
  static void forward(Context& c, const Weights& w, const float* x, const AttentionContext& context, const float* residual,
                      float* out, Saved& saved) {
    Scope scope(c.stack);
    const std::size_t keys = context.tokens != 0 ? context.tokens : S.keys;
    const std::size_t rows = c.batch * S.queries, key_rows = c.batch * keys;
    float* q = c.stack.take(rows * S.width);
    float* k = c.stack.take(key_rows * S.width);
    float* v = k;
    ToQ::forward(c, w.to_q, x, q, rows);
    if constexpr (S.shared_kv) {
      ToKV::forward(c, w.to_kv, context.data, k, key_rows);
    } else {
      v = c.stack.take(key_rows * S.width);
      ToKV::forward(c, w.to_k, context.data, k, key_rows);
      ToKV::forward(c, w.to_v, context.data, v, key_rows);
    }
    float* y = c.stack.take(rows * S.width);
    float* log_sum_exp = c.stack.take(c.batch * S.heads * S.queries);
    {
      const Span span(c, {"attention", w.to_q.weight.data, c.batch * 2 * S.queries * keys * S.width,
                          8 * c.batch * (S.queries + keys) * S.width});
      kernels::attention(c.executor, shape(c.batch, keys, c.packed && c.format != Format::fp32), q, S.width, k, S.width, v,
                         S.width, y, S.width, log_sum_exp);
    }
    kernels::Epilogue epilogue;
    epilogue.residual = residual;
    epilogue.residual_ld = S.width;
    ToOut::forward(c, std::get<0>(w.to_out), y, out, rows, epilogue);
    saved = {x, context.data, q, k, v, y, log_sum_exp, keys};
  }

  // dx is assigned; d_context is added to (self-attention passes dx again: it is assigned before).
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* d_out, float* dx,
                       float* d_context) {
    Scope scope(c.stack);
    const std::size_t rows = c.batch * S.queries, key_rows = c.batch * s.keys;
    float* dy = c.stack.take(rows * S.width);
    ToOut::backward(c, std::get<0>(w.to_out), std::get<0>(g.to_out), s.y, d_out, dy, rows);
    float* dq = c.stack.take(rows * S.width);
    float* dk = c.stack.take_zeroed(key_rows * S.width);
    float* dv = S.shared_kv ? dk : c.stack.take_zeroed(key_rows * S.width);
    kernels::attention_backward(c.executor, shape(c.batch, s.keys), s.q, S.width, s.k, S.width, s.v, S.width, s.y, S.width, dy,
                                S.width, s.log_sum_exp, dq, S.width, dk, S.width, dv, S.width);
    ToQ::backward(c, w.to_q, g.to_q, s.x, dq, dx, rows);
    if constexpr (S.shared_kv) {
      ToKV::backward(c, w.to_kv, g.to_kv, s.context, dk, d_context, key_rows, true);
    } else {
      ToKV::backward(c, w.to_k, g.to_k, s.context, dk, d_context, key_rows, true);
      ToKV::backward(c, w.to_v, g.to_v, s.context, dv, d_context, key_rows, true);
    }
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
