// SPDX-License-Identifier: Apache-2.0
// transformers' CLIPTextModel, also with projection, as a static graph (arXiv 2103.00020): token and position embedding, pre-norm
// layers, final norm.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <string>

#include "../config/validate.hpp"
#include "../kernels/kernels.hpp"
#include "../layers/attention.hpp"
#include "../layers/norm.hpp"
#include "../reflect/reflect.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

template <TextEncoderConfig C>
class TextEncoder {
  static_assert(ValidTextEncoder<C>::value);
  static constexpr std::size_t hidden = C.width * C.mlp_ratio;
  using Norm = LayerNorm<C.width>;
  using Projection = Linear<LinearSpec{.in = C.width, .out = C.width}>;
  using Fc1 = Linear<LinearSpec{.in = C.width, .out = hidden}>;
  using Fc2 = Linear<LinearSpec{.in = hidden, .out = C.width}>;
  static constexpr bool projects = C.projection > 0;
  using TextProjection = Linear<LinearSpec{.in = C.width, .out = projects ? C.projection : 1, .bias = false}>;
  // The last layer of the two is there, as in files, and computed only for what is projected.
  static constexpr std::size_t last = C.penultimate ? C.layers - 1 : C.layers, layers = projects ? C.layers : last;

  struct TokenTable {
    Param<C.vocabulary, C.width> weight;
  };
  struct PositionTable {
    Param<C.length, C.width> weight;
  };
  struct Embeddings {
    TokenTable token_embedding;
    PositionTable position_embedding;
  };
  struct SelfAttention {
    typename Projection::Weights k_proj, v_proj, q_proj, out_proj;
  };
  struct Mlp {
    typename Fc1::Weights fc1;
    typename Fc2::Weights fc2;
  };
  struct Layer {
    SelfAttention self_attn;
    typename Norm::Weights layer_norm1;
    Mlp mlp;
    typename Norm::Weights layer_norm2;
  };
  struct Layers {
    std::array<Layer, C.layers> layers;
  };
  struct TextModel {
    Embeddings embeddings;
    Layers encoder;
    typename Norm::Weights final_layer_norm;
  };
  struct LayerSaved {
    NormSaved norm1, norm2;
    const float *n1 = nullptr, *q = nullptr, *k = nullptr, *v = nullptr, *y = nullptr, *log_sum_exp = nullptr;
    const float *n2 = nullptr, *up = nullptr, *active = nullptr;
  };

 public:
  static constexpr TextEncoderConfig config = C;
  static constexpr std::size_t context_floats = C.length * C.width,
                               pooled_floats = C.pooled * C.width + C.projection;  // per caption
  // One layer is left at least; none is skipped where the projection reads the normed context.
  static constexpr std::size_t most_clip_skip = projects && !C.penultimate ? 0 : last - 1;
  static constexpr std::int32_t padding = 0;  // token id that the pooled sum leaves out

  struct Weights {
    TextModel text_model;
    std::conditional_t<projects, typename TextProjection::Weights, Absent> text_projection;
  };
  struct Saved {
    std::array<LayerSaved, C.layers> layers;
    NormSaved final_norm;
    const std::int32_t* ids = nullptr;
    const float* ends = nullptr;  // normed
  };

  static constexpr std::size_t parameters = reflect::parameters<Weights>();
  static constexpr std::size_t weight_bytes = 4 * parameters;
  static constexpr std::size_t macs =
      layers * (4 * Projection::macs(C.length) + 2 * C.length * C.length * C.width + Fc1::macs(C.length) + Fc2::macs(C.length)) +
      (projects ? TextProjection::macs(1) : 0);
  static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
    const std::size_t rows = batch * C.length, tensor = aligned(rows * C.width), norm = Norm::stack_floats(rows);
    const std::size_t attention = 5 * tensor + norm + aligned(batch * C.heads * C.length);
    const std::size_t mlp = tensor + norm + 2 * aligned(rows * hidden);
    Planned p{plan};
    p.take(tensor);
    for (std::size_t i = 0; i < layers; ++i) p.take(tensor).part(attention).take(tensor).part(mlp);
    if (!C.penultimate) p.take(norm);
    if (projects) p.take(batch * C.width);
    if (projects && C.penultimate) p.take(batch * C.width).take(Norm::stack_floats(batch));
    return p.peak;
  }
  static constexpr std::size_t backward_floats(std::size_t batch) {
    const std::size_t rows = batch * C.length, tensor = aligned(rows * C.width), norm = Norm::backward_floats(rows);
    Planned p{Plan::inference}, layer{Plan::inference};
    layer.take(tensor).take(2 * aligned(rows * hidden)).part(norm).take(4 * tensor).part(norm);
    p.take(tensor);
    if (projects) {
      Planned ends{Plan::inference};
      ends.take(batch * C.width);
      if (C.penultimate) ends.take(batch * C.width).part(Norm::backward_floats(batch));
      else ends.take(tensor).part(norm);
      p.part(ends.peak);
    } else if (!C.penultimate) {
      p.part(norm);
    }
    return p.part(layer.peak).peak;
  }
  static constexpr std::size_t activation_bytes = 4 * stack_floats(Plan::inference, 1);

  // Where a caption's end stands in ids [length]: the first token of the greatest number, as CLIP has it.
  static std::size_t end_of(const std::int32_t* ids) {
    return static_cast<std::size_t>(std::max_element(ids, ids + C.length) - ids);
  }

  // ids [batch][length] -> context [batch][length][width]; pooled [batch][pooled_floats] (null if the configuration has none):
  // sums of the captions' token embeddings, or the projection of their ends, the first tokens of the greatest number. clip_skip:
  // the context is the state so many layers earlier, normed all the same (diffusers' clip_skip); backward is of 0. Throws Error
  // for more than most_clip_skip.
  static void forward(Context& c, const Weights& w, const std::int32_t* ids, float* context, float* pooled, Saved& s,
                      std::size_t clip_skip = 0) {
    if (clip_skip > most_clip_skip)
      throw Error("clip_skip: expected 0 to " + std::to_string(most_clip_skip) + ", found " + std::to_string(clip_skip));
    Scope scope(c.stack);
    const std::size_t taken = last - clip_skip, run = projects ? C.layers : taken;  // layers: up to the context, and at all
    const TextModel& m = w.text_model;
    const std::size_t rows = c.batch * C.length, floats = rows * C.width;
    float* x = c.stack.take(floats);
    kernels::embed_tokens(c.executor, ids, c.batch, C.length, m.embeddings.token_embedding.weight.data,
                          m.embeddings.position_embedding.weight.data, x, C.width);
    if constexpr (C.pooled > 0)
      kernels::embedding_bag(ids, c.batch, C.length, m.embeddings.token_embedding.weight.data, C.width, padding,
                             pooling_weights().data(), C.pooled, pooled);
    const float* state = x;  // what becomes the context
    for (std::size_t i = 0; i < run; ++i) {
      const Layer& l = m.encoder.layers[i];
      LayerSaved& ls = s.layers[i];
      float* attended = c.stack.take(floats);
      {
        Scope inner(c.stack);
        float* n = c.stack.take(floats);
        Norm::forward(c, l.layer_norm1, x, n, rows, ls.norm1);
        float *q = c.stack.take(floats), *k = c.stack.take(floats), *v = c.stack.take(floats), *y = c.stack.take(floats);
        Projection::forward(c, l.self_attn.q_proj, n, q, rows);
        Projection::forward(c, l.self_attn.k_proj, n, k, rows);
        Projection::forward(c, l.self_attn.v_proj, n, v, rows);
        float* log_sum_exp = c.stack.take(c.batch * C.heads * C.length);
        {
          const Span span(
              c, {"attention", l.self_attn.q_proj.weight.data, c.batch * 2 * C.length * C.length * C.width, 16 * rows * C.width});
          kernels::attention(c.executor, shape(c.batch, c.packed && c.format != Format::fp32), q, C.width, k, C.width, v, C.width,
                             y, C.width, log_sum_exp);
        }
        Projection::forward(c, l.self_attn.out_proj, y, attended, rows, plus(x));
        ls.n1 = n;
        ls.q = q;
        ls.k = k;
        ls.v = v;
        ls.y = y;
        ls.log_sum_exp = log_sum_exp;
      }
      float* out = c.stack.take(floats);
      {
        Scope inner(c.stack);
        float* n = c.stack.take(floats);
        Norm::forward(c, l.layer_norm2, attended, n, rows, ls.norm2);
        float *up = c.stack.take(rows * hidden), *active = c.stack.take(rows * hidden);
        Fc1::forward(c, l.mlp.fc1, n, up, rows);
        {
          const Span span(c, {"activation", l.mlp.fc1.weight.data, 0, 8 * rows * hidden});
          kernels::activate(c.executor, C.activation, up, active, rows * hidden);
        }
        Fc2::forward(c, l.mlp.fc2, active, out, rows, plus(attended));
        ls.n2 = n;
        ls.up = up;
        ls.active = active;
      }
      x = out;
      if (i + 1 == taken) state = x;
    }
    if constexpr (C.penultimate) kernels::copy(c.executor, state, context, floats);
    else Norm::forward(c, m.final_layer_norm, state, context, rows, s.final_norm);
    if constexpr (projects) {
      float* ends = c.stack.take(c.batch * C.width);
      for (std::size_t b = 0; b < c.batch; ++b)
        std::copy_n((C.penultimate ? x : context) + end_row(ids, b) * C.width, C.width, ends + b * C.width);
      if constexpr (C.penultimate) {
        float* normed = c.stack.take(c.batch * C.width);
        Norm::forward(c, m.final_layer_norm, ends, normed, c.batch, s.final_norm);
        ends = normed;
      }
      TextProjection::forward(c, w.text_projection, ends, pooled, c.batch);
      s.ends = ends;
    }
    s.ids = ids;
  }

  // d_pooled as forward's pooled. Gradients are added to g's leafs.
  static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* d_context,
                       const float* d_pooled) {
    Scope scope(c.stack);
    const TextModel &m = w.text_model, &gm = g.text_model;
    const std::size_t rows = c.batch * C.length, floats = rows * C.width;
    float* d = c.stack.take(floats);
    if constexpr (projects) {
      Scope inner(c.stack);
      float* d_ends = c.stack.take(c.batch * C.width);
      TextProjection::backward(c, w.text_projection, g.text_projection, s.ends, d_pooled, d_ends, c.batch);
      const auto add_ends = [&](const float* from, float* to) {
        for (std::size_t b = 0; b < c.batch; ++b)
          for (std::size_t k = 0; k < C.width; ++k) to[end_row(s.ids, b) * C.width + k] += from[b * C.width + k];
      };
      if constexpr (C.penultimate) {
        float* d_rows = c.stack.take(c.batch * C.width);
        Norm::backward(c, m.final_layer_norm, gm.final_layer_norm, s.final_norm, d_ends, d_rows, c.batch, false);
        std::fill_n(d, floats, 0.0f);
        add_ends(d_rows, d);
      } else {
        float* dn = c.stack.take(floats);
        kernels::copy(c.executor, d_context, dn, floats);
        add_ends(d_ends, dn);
        Norm::backward(c, m.final_layer_norm, gm.final_layer_norm, s.final_norm, dn, d, rows, false);
      }
    } else if constexpr (C.penultimate) {
      kernels::copy(c.executor, d_context, d, floats);
    } else {
      Norm::backward(c, m.final_layer_norm, gm.final_layer_norm, s.final_norm, d_context, d, rows, false);
    }
    for (std::size_t i = layers; i-- > 0;) {
      if (C.penultimate && projects && i + 2 == C.layers) kernels::add_to(c.executor, d_context, d, floats);
      Scope inner(c.stack);
      const Layer &l = m.encoder.layers[i], &gl = gm.encoder.layers[i];
      const LayerSaved& ls = s.layers[i];
      float *dn = c.stack.take(floats), *d_active = c.stack.take(rows * hidden), *d_up = c.stack.take(rows * hidden);
      Fc2::backward(c, l.mlp.fc2, gl.mlp.fc2, ls.active, d, d_active, rows);
      kernels::activate_backward(c.executor, C.activation, ls.up, d_active, d_up, rows * hidden);
      Fc1::backward(c, l.mlp.fc1, gl.mlp.fc1, ls.n2, d_up, dn, rows);
      Norm::backward(c, l.layer_norm2, gl.layer_norm2, ls.norm2, dn, d, rows, true);
      float *dy = c.stack.take(floats), *dq = c.stack.take(floats), *dk = c.stack.take_zeroed(floats),
            *dv = c.stack.take_zeroed(floats);
      Projection::backward(c, l.self_attn.out_proj, gl.self_attn.out_proj, ls.y, d, dy, rows);
      kernels::attention_backward(c.executor, shape(c.batch), ls.q, C.width, ls.k, C.width, ls.v, C.width, ls.y, C.width, dy,
                                  C.width, ls.log_sum_exp, dq, C.width, dk, C.width, dv, C.width);
      Projection::backward(c, l.self_attn.q_proj, gl.self_attn.q_proj, ls.n1, dq, dn, rows);
      Projection::backward(c, l.self_attn.k_proj, gl.self_attn.k_proj, ls.n1, dk, dn, rows, true);
      Projection::backward(c, l.self_attn.v_proj, gl.self_attn.v_proj, ls.n1, dv, dn, rows, true);
      Norm::backward(c, l.layer_norm1, gl.layer_norm1, ls.norm1, dn, d, rows, true);
    }
    kernels::embed_tokens_backward(c.executor, s.ids, c.batch, C.length, d, gm.embeddings.token_embedding.weight.data,
                                   gm.embeddings.position_embedding.weight.data, C.width);
    if constexpr (C.pooled > 0)
      kernels::embedding_bag_backward(s.ids, c.batch, C.length, d_pooled, C.width, padding, pooling_weights().data(), C.pooled,
                                      gm.embeddings.token_embedding.weight.data);
  }

 private:
  static std::size_t end_row(const std::int32_t* ids, std::size_t b) { return b * C.length + end_of(ids + b * C.length); }
  static std::array<float, C.pooled * C.length> pooling_weights() {
    std::array<float, C.pooled * C.length> weights;
    kernels::cosine_weights(C.pooled, C.length, weights.data());
    return weights;
  }
  static kernels::AttentionShape shape(std::size_t batch, bool bf16 = false) {
    return {.batch = batch,
            .queries = C.length,
            .keys = C.length,
            .heads = C.heads,
            .head_dim = C.width / C.heads,
            .causal = C.causal,
            .kind = AttentionKind::softmax,
            .scale = 1.0f / std::sqrt(static_cast<float>(C.width / C.heads)),
            .bf16 = bf16};
  }
  static kernels::Epilogue plus(const float* residual) {
    kernels::Epilogue epilogue;
    epilogue.residual = residual;
    epilogue.residual_ld = C.width;
    return epilogue;
  }
};

namespace detail {
template <TextEncoderConfig C, bool = is_present(C)>
struct TextEncoderWeights {
  using type = typename TextEncoder<C>::Weights;
};
template <TextEncoderConfig C>
struct TextEncoderWeights<C, false> {
  using type = Absent;
};
}  // namespace detail
// Of a text encoder that a model may lack.
template <TextEncoderConfig C>
using TextEncoderWeights = typename detail::TextEncoderWeights<C>::type;

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
