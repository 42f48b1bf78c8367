// SPDX-License-Identifier: Apache-2.0
// diffusers' BasicTransformerBlock, and Transformer2DModel: a stack of them over the pixels of one resolution.
#pragma once

#include "../core/begin.hpp"

#include <array>

#include "../kernels/kernels.hpp"
#include "../layers/attention.hpp"
#include "../layers/feed_forward.hpp"
#include "../layers/norm.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct TransformerSpec {
  std::size_t depth = 0;  // 0: absent
  std::size_t width = 0, heads = 0, tokens = 0, groups = 0;
  std::size_t context_length = 0, context_width = 0;
  bool self_attention = true, cross_attention = true;
  bool self_reads_context = false;
  bool shared_kv = true;
  AttentionKind kind = AttentionKind::softmax;
  bool projections = true, linear_projections = false, position_embedding = false;
  std::size_t ratio = 6;
  Activation activation = Activation::silu;
};

// norm1, self-attention (which may read the text, too); norm2, cross-attention; norm3, feed-forward; each with a residual. A
// removed attention takes its norm with it.
template <TransformerSpec S>
struct TransformerBlock {
  using Norm = LayerNorm<S.width>;
  using SelfAttention = Attention<AttentionSpec{.width = S.width,
                                                .heads = S.heads,
                                                .queries = S.tokens,
                                                .keys = S.self_reads_context ? S.context_length : S.tokens,
                                                .context_width = S.self_reads_context ? S.context_width : S.width,
                                                .shared_kv = S.shared_kv,
                                                .kind = S.kind}>;
  using CrossAttention = Attention<AttentionSpec{.width = S.width,
                                                 .heads = S.heads,
                                                 .queries = S.tokens,
                                                 .keys = S.context_length,
                                                 .context_width = S.context_width,
                                                 .shared_kv = S.shared_kv,
                                                 .kind = S.kind}>;
  using Mlp = FeedForward<FeedForwardSpec{.width = S.width, .ratio = S.ratio, .activation = S.activation}>;

  struct Weights {
    std::conditional_t<S.self_attention, typename Norm::Weights, Absent> norm1;
    std::conditional_t<S.self_attention, typename SelfAttention::Weights, Absent> attn1;
    std::conditional_t<S.cross_attention, typename Norm::Weights, Absent> norm2;
    std::conditional_t<S.cross_attention, typename CrossAttention::Weights, Absent> attn2;
    typename Norm::Weights norm3;
    typename Mlp::Weights ff;
  };
  struct Saved {
    NormSaved norm1, norm2, norm3;
    typename SelfAttention::Saved attn1;
    typename CrossAttention::Saved attn2;
    typename Mlp::Saved ff;
  };

  static constexpr std::size_t macs =
      (S.self_attention ? SelfAttention::macs : 0) + (S.cross_attention ? CrossAttention::macs : 0) + Mlp::macs(S.tokens);
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    const std::size_t rows = batch * S.tokens, tensor = rows * S.width, norm = Norm::stack_floats(rows);
    Planned p{plan};
    if (S.self_attention) p.take(tensor).take(norm).take(tensor).part(SelfAttention::stack_floats(batch));
    if (S.cross_attention) p.take(tensor).take(norm).take(tensor).part(CrossAttention::stack_floats(batch));
    p.take(tensor).take(norm).part(Mlp::stack_floats(rows));
    return p.peak;
  }

  static constexpr std::size_t backward_floats(std::size_t batch) {
    const std::size_t rows = batch * S.tokens;
    Planned p{Plan::inference};
    p.take(rows * S.width).part(Mlp::backward_floats(rows)).part(Norm::backward_floats(rows));
    if (S.cross_attention) p.part(CrossAttention::backward_floats(batch));
    if (S.self_attention) p.part(SelfAttention::backward_floats(batch));
    return p.peak;
  }

  // x [batch][tokens][width], context of at most context_length tokens -> y as x
  static void forward(Context& c, const Weights& w, const float* x, const AttentionContext& context, float* y, Saved& saved) {
    Scope scope(c.stack);
    const std::size_t rows = c.batch * S.tokens;
    if constexpr (S.self_attention) {
      float* n = c.stack.take(rows * S.width);
      Norm::forward(c, w.norm1, x, n, rows, saved.norm1);
      float* h = c.stack.take(rows * S.width);
      SelfAttention::forward(c, w.attn1, n, S.self_reads_context ? context : AttentionContext(n), x, h, saved.attn1);
      x = h;
    }
    if constexpr (S.cross_attention) {
      float* n = c.stack.take(rows * S.width);
      Norm::forward(c, w.norm2, x, n, rows, saved.norm2);
      float* h = c.stack.take(rows * S.width);
      CrossAttention::forward(c, w.attn2, n, context, x, h, saved.attn2);
      x = h;
    }
    float* n = c.stack.take(rows * S.width);
    Norm::forward(c, w.norm3, x, n, rows, saved.norm3);
    Mlp::forward(c, w.ff, n, x, y, rows, saved.ff);
  }

  // d holds the output's gradient and becomes the input's; d_context is added to.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, float* d, float* d_context) {
    Scope scope(c.stack);
    const std::size_t rows = c.batch * S.tokens;
    float* dn = c.stack.take(rows * S.width);
    Mlp::backward(c, w.ff, g.ff, s.ff, d, dn, rows);
    Norm::backward(c, w.norm3, g.norm3, s.norm3, dn, d, rows, true);
    if constexpr (S.cross_attention) {
      CrossAttention::backward(c, w.attn2, g.attn2, s.attn2, d, dn, d_context);
      Norm::backward(c, w.norm2, g.norm2, s.norm2, dn, d, rows, true);
    }
    if constexpr (S.self_attention) {
      SelfAttention::backward(c, w.attn1, g.attn1, s.attn1, d, dn, S.self_reads_context ? d_context : dn);
      Norm::backward(c, w.norm1, g.norm1, s.norm1, dn, d, rows, true);
    }
  }
};

// norm, proj_in (+ position embedding), the blocks, proj_out, + input.
template <TransformerSpec S>
struct Transformer2D {
  using Norm = GroupNorm<GroupNormSpec{.channels = S.width, .groups = S.groups, .pixels = S.tokens}>;
  using Projection = Linear<LinearSpec{.in = S.width, .out = S.width, .conv = !S.linear_projections}>;
  using Block = TransformerBlock<S>;
  struct PositionWeights {
    Param<S.tokens, S.width> pos_embed;
  };
  struct Weights {
    typename Norm::Weights norm;
    std::conditional_t<S.projections, typename Projection::Weights, Absent> proj_in;
    std::conditional_t<S.position_embedding, PositionWeights, Absent> pos_embed;
    std::array<typename Block::Weights, S.depth> transformer_blocks;
    std::conditional_t<S.projections, typename Projection::Weights, Absent> proj_out;
  };
  struct Saved {
    NormSaved norm;
    const float *normed = nullptr, *last = nullptr;
    std::array<typename Block::Saved, S.depth> blocks;
  };

  static constexpr std::size_t macs = S.depth * Block::macs + (S.projections ? 2 * Projection::macs(S.tokens) : 0);
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    const std::size_t tensor = batch * S.tokens * S.width;
    Planned p{plan};
    p.take(tensor).take(Norm::stack_floats(batch));
    if (S.projections) p.take(tensor);
    for (std::size_t i = 0; i < S.depth; ++i) p.take(tensor).part(Block::stack_floats(plan, batch));
    return p.peak;
  }

  static constexpr std::size_t backward_floats(std::size_t batch) {
    Planned p{Plan::inference};
    p.take(batch * S.tokens * S.width).part(Block::backward_floats(batch));
    if (S.projections) p.take(batch * S.tokens * S.width);
    return p.part(Norm::backward_floats(batch, true)).peak;
  }

  static void forward(Context& c, const Weights& w, const float* x, const AttentionContext& context, float* y, Saved& saved) {
    Scope scope(c.stack);
    const std::size_t rows = c.batch * S.tokens;
    float* n = c.stack.take(rows * S.width);
    Norm::forward(c, w.norm, x, n, saved.norm, transformer_epsilon);
    float* h = n;
    if constexpr (S.projections) {
      h = c.stack.take(rows * S.width);
      Projection::forward(c, w.proj_in, n, h, rows);
    }
    if constexpr (S.position_embedding)
      kernels::add_per_batch(c.executor, w.pos_embed.pos_embed.data, h, c.batch, S.tokens * S.width);
    for (std::size_t i = 0; i < S.depth; ++i) {
      float* next = c.stack.take(rows * S.width);
      Block::forward(c, w.transformer_blocks[i], h, context, next, saved.blocks[i]);
      h = next;
    }
    if constexpr (S.projections) {
      kernels::Epilogue epilogue;
      epilogue.residual = x;
      epilogue.residual_ld = S.width;
      Projection::forward(c, w.proj_out, h, y, rows, epilogue);
    } else {
      kernels::add(c.executor, x, h, y, rows * S.width);
    }
    saved.normed = n;
    saved.last = h;
  }

  // dx is assigned, d_context added to.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* dy, float* dx,
                       float* d_context) {
    Scope scope(c.stack);
    const std::size_t rows = c.batch * S.tokens;
    float* d = c.stack.take(rows * S.width);
    if constexpr (S.projections) Projection::backward(c, w.proj_out, g.proj_out, s.last, dy, d, rows);
    else kernels::copy(c.executor, dy, d, rows * S.width);
    for (std::size_t i = S.depth; i-- > 0;)
      Block::backward(c, w.transformer_blocks[i], g.transformer_blocks[i], s.blocks[i], d, d_context);
    if constexpr (S.position_embedding)
      kernels::sum_batch(c.executor, d, c.batch, S.tokens * S.width, g.pos_embed.pos_embed.data);
    kernels::copy(c.executor, dy, dx, rows * S.width);
    if constexpr (S.projections) {
      float* dn = c.stack.take(rows * S.width);
      Projection::backward(c, w.proj_in, g.proj_in, s.normed, d, dn, rows);
      d = dn;
    }
    Norm::backward(c, w.norm, g.norm, s.norm, d, dx, true);
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
