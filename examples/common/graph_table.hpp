// SPDX-License-Identifier: Apache-2.0
// The static graph of a model as rows: every number is a constant of the part's type or counted by reflection.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mobilediffusion/pipeline.hpp"

namespace examples {

struct GraphRow {
  std::string name, kind;
  std::size_t height = 0, width = 0, channels = 0;  // of the output; text: height 1, width in tokens
  std::size_t layers = 0, parameters = 0, macs = 0;
  std::size_t output_bytes = 0, activation_bytes = 0;  // activations: what it takes beside input and output, one image
};

struct GraphPart {
  std::string name;
  std::size_t parameters, macs, activation_bytes;  // the model's own constants; activations: the peak, not a sum
  std::vector<GraphRow> rows;
};

namespace detail {

namespace md = mobilediffusion;
constexpr md::Plan plan = md::Plan::inference;

// The specification that a part was made from.
template <template <md::TinyLayerSpec> class T, md::TinyLayerSpec S>
constexpr md::TinyLayerSpec spec_of(const T<S>*) {
  return S;
}
template <template <md::StageSpec> class T, md::StageSpec S>
constexpr md::StageSpec spec_of(const T<S>*) {
  return S;
}
template <template <md::ResnetSpec> class T, md::ResnetSpec S>
constexpr md::ResnetSpec spec_of(const T<S>*) {
  return S;
}
template <template <md::TransformerSpec> class T, md::TransformerSpec S>
constexpr md::TransformerSpec spec_of(const T<S>*) {
  return S;
}
template <template <md::ConvolutionSpec> class T, md::ConvolutionSpec S>
constexpr md::ConvolutionSpec spec_of(const T<S>*) {
  return S;
}
template <class Part>
inline constexpr auto spec = spec_of(static_cast<const Part*>(nullptr));

// Layers with weights: tensors that are no bias.
template <class Weights>
std::size_t count_layers() {
  std::size_t n = 0;
  Weights weights{};
  for (const md::reflect::LeafView& leaf : md::reflect::leafs(weights)) n += leaf.path.ends_with("bias") ? 0 : 1;
  return n;
}

class GraphRows {
 public:
  template <class Weights>
  void add(const std::string& name, std::string kind, std::array<std::size_t, 3> shape, std::size_t macs,
           std::size_t scratch_floats) {
    rows_.push_back({.name = name,
                     .kind = std::move(kind),
                     .height = shape[0],
                     .width = shape[1],
                     .channels = shape[2],
                     .layers = count_layers<Weights>(),
                     .parameters = md::reflect::parameters<Weights>(),
                     .macs = macs,
                     .output_bytes = 4 * shape[0] * shape[1] * shape[2],
                     .activation_bytes = 4 * scratch_floats});
  }
  template <class Layer>
  void convolution(const std::string& name, const char* kind) {
    constexpr md::ConvolutionSpec s = spec<Layer>;
    add<typename Layer::Weights>(name, std::string(kind) + (s.separable ? ", separable" : ""),
                                 {Layer::out_height, Layer::out_width, s.out}, Layer::macs,
                                 Layer::stack_floats(md::Plan::inference, 1));
  }
  template <class Layer>
  void tiny_layer(const std::string& name) {
    constexpr md::TinyLayerSpec s = spec<Layer>;
    const bool block = s.kind == md::TinyLayerKind::block;
    add<typename Layer::Weights>(name,
                                 block           ? "residual"
                                 : s.upsample    ? "doubles"
                                 : s.stride == 2 ? "halves"
                                                 : "3x3",
                                 {Layer::height, Layer::width, s.out}, Layer::macs, Layer::stack_floats(plan, 1));
  }
  template <class Block>
  void resnet(const std::string& name) {
    constexpr md::ResnetSpec s = spec<Block>;
    std::string kind = "residual";
    if (s.separable1 || s.separable2)
      kind += s.separable1 && s.separable2 ? ", separable" : s.separable1 ? ", conv1 separable" : ", conv2 separable";
    add<typename Block::Weights>(name, kind, {s.height, s.width, s.out}, Block::macs, Block::stack_floats(plan, 1));
  }
  template <class Stack>
  void transformer(const std::string& name, std::size_t height, std::size_t width) {
    constexpr md::TransformerSpec s = spec<Stack>;
    std::string kind = std::to_string(s.depth) + " x";
    if (s.self_attention) kind += s.self_reads_context ? " cross," : " self,";
    if (s.cross_attention) kind += " cross,";
    add<typename Stack::Weights>(name, kind + " feed-forward", {height, width, s.width}, Stack::macs,
                                 Stack::stack_floats(plan, 1));
  }
  template <class Stage>
  void stage(const std::string& name, const char* sampler, const char* sampler_kind) {
    constexpr md::StageSpec s = spec<Stage>;
    md::unroll<s.resnets>([&]<std::size_t I>(md::Index<I>) {
      const std::string number = "." + std::to_string(I);
      resnet<typename Stage::template Resnet<I>>(name + ".resnets" + number);
      if constexpr (s.transformers[I].depth > 0)
        transformer<typename Stage::template Transformer<I>>(name + ".attentions" + number, s.height, s.width);
    });
    if constexpr (s.sampler) convolution<typename Stage::Sampler>(name + sampler, sampler_kind);
  }
  template <class Stage>
  void down(const std::string& name) {
    stage<Stage>(name, ".downsamplers.0", "halves");
  }
  template <class Stage>
  void up(const std::string& name) {
    stage<Stage>(name, ".upsamplers.0", "doubles");
  }

  std::vector<GraphRow> take() { return std::move(rows_); }

 private:
  std::vector<GraphRow> rows_;
};

template <class Norm>
inline constexpr const char* norm = Norm::normalizes ? "norm, activation" : "activation";
inline std::string numbered(const char* name, std::size_t i) { return std::string(name) + std::to_string(i); }

template <md::TextEncoderConfig C>
GraphPart text_encoder_part(const char* name) {
  using Text = md::TextEncoder<C>;
  using Model = decltype(Text::Weights::text_model);
  GraphRows rows;
  rows.add<decltype(Model::embeddings)>("embeddings", "token and position tables", {1, C.length, C.width}, 0, 0);
  rows.add<decltype(Model::encoder)>("encoder.layers", std::to_string(C.layers) + " x self, feed-forward", {1, C.length, C.width},
                                     Text::macs, Text::stack_floats(plan, 1));
  rows.add<decltype(Model::final_layer_norm)>("final_layer_norm", "norm", {1, C.length, C.width}, 0, 0);
  return {name, Text::parameters, Text::macs, Text::activation_bytes, rows.take()};
}

template <md::UnetConfig C>
GraphPart unet_part() {
  using Net = md::Unet<C>;
  using W = typename Net::Weights;
  GraphRows rows;
  rows.add<decltype(W::time_embedding)>(
      "time_embedding", "two layers", {1, 1, Net::Time2::out},
      Net::Time1::macs(1) + (C.guidance_width != 0 ? Net::Guidance::macs(1) : 0) + Net::Time2::macs(1), 0);
  if constexpr (C.pooled_width != 0)
    rows.add<decltype(W::add_embedding)>("add_embedding", "two layers", {1, 1, Net::Time2::out},
                                         Net::Pooled1::macs(1) + Net::Time2::macs(1), 0);
  rows.convolution<typename Net::ConvIn>("conv_in", "3x3");
  md::unroll<C.levels>(
      [&]<std::size_t L>(md::Index<L>) { rows.down<typename Net::template Down<L>>(numbered("down_blocks.", L)); });
  if constexpr (C.middle.resnets > 0) {
    constexpr std::size_t low = C.levels - 1;
    rows.resnet<typename Net::MiddleResnet>("mid_block.resnets.0");
    if constexpr (Net::has_middle_transformer)
      rows.transformer<md::Transformer2D<Net::middle_spec>>("mid_block.attentions.0", C.height >> low, C.width >> low);
    if constexpr (C.middle.resnets > 1) rows.resnet<typename Net::MiddleResnet>("mid_block.resnets.1");
  }
  md::unroll<C.levels>([&]<std::size_t J>(md::Index<J>) { rows.up<typename Net::template Up<J>>(numbered("up_blocks.", J)); });
  rows.add<decltype(W::conv_norm_out)>("conv_norm_out", norm<typename Net::NormOut>, {C.height, C.width, C.stages[0].channels}, 0,
                                       Net::NormOut::stack_floats(1));
  rows.convolution<typename Net::ConvOut>("conv_out", "3x3");
  return {"unet", Net::parameters, Net::macs, Net::activation_bytes, rows.take()};
}

template <class Half, bool attention>
void vae_middle(GraphRows& rows, std::size_t height, std::size_t width) {
  using Middle = typename Half::Middle;
  rows.add<typename Middle::Weights>("mid_block", attention ? "2 residual, attention" : "2 residual",
                                     {height, width, Half::bottom}, Middle::macs, Middle::stack_floats(plan, 1));
}

template <class Half>
GraphPart tiny_vae_part(const char* name) {
  using Layers = typename Half::Layers;
  GraphRows rows;
  md::unroll<Layers::size>([&]<std::size_t I>(md::Index<I>) {
    if constexpr (Layers::template computes<I>) rows.tiny_layer<typename Layers::template Layer<I>>(numbered("layers.", I));
  });
  return {name, md::reflect::parameters<typename Half::Weights>(), Half::macs, 4 * Half::stack_floats(plan, 1), rows.take()};
}

template <md::VaeConfig C>
GraphPart vae_encoder_part() {
  using Net = md::Vae<C>;
  using Half = typename Net::Encoder;
  using W = typename Half::Weights;
  constexpr std::size_t height = Net::latent_height, width = Net::latent_width;
  GraphRows rows;
  rows.convolution<typename Half::ConvIn>("conv_in", "3x3");
  md::unroll<C.levels>(
      [&]<std::size_t L>(md::Index<L>) { rows.down<typename Half::template Down<L>>(numbered("down_blocks.", L)); });
  if constexpr (C.middle) vae_middle<Half, C.middle_attention>(rows, height, width);
  rows.add<decltype(W::conv_norm_out)>("conv_norm_out", norm<typename Half::NormOut>, {height, width, Half::bottom}, 0,
                                       Half::NormOut::stack_floats(1));
  rows.convolution<typename Half::ConvOut>("conv_out", "3x3");
  if constexpr (C.quant_conv)
    rows.add<typename Half::Quant::Weights>("quant_conv", "1x1", {height, width, Half::moments},
                                            Half::Quant::macs(height * width), 0);
  const std::size_t parameters = md::reflect::parameters<W>() + md::reflect::parameters<decltype(Net::Weights::quant_conv)>();
  return {"vae.encoder", parameters, Net::encoder_macs, 4 * Half::stack_floats(plan, 1), rows.take()};
}

template <md::VaeConfig C>
GraphPart vae_decoder_part() {
  using Net = md::Vae<C>;
  using Half = typename Net::Decoder;
  using W = typename Half::Weights;
  constexpr std::size_t height = Net::latent_height, width = Net::latent_width;
  GraphRows rows;
  if constexpr (C.quant_conv)
    rows.add<typename Half::PostQuant::Weights>("post_quant_conv", "1x1", {height, width, C.latent_channels},
                                                Half::PostQuant::macs(height * width), 0);
  rows.convolution<typename Half::ConvIn>("conv_in", "3x3");
  if constexpr (Half::has_middle) vae_middle<Half, C.middle_attention>(rows, height, width);
  md::unroll<md::decoder_levels(C)>(
      [&]<std::size_t J>(md::Index<J>) { rows.up<typename Half::template Up<J>>(numbered("up_blocks.", J)); });
  rows.add<decltype(W::conv_norm_out)>("conv_norm_out", norm<typename Half::NormOut>,
                                       {C.height / md::decoder_patch(C), C.width / md::decoder_patch(C), Half::top}, 0,
                                       Half::NormOut::stack_floats(1));
  rows.convolution<typename Half::ConvOut>("conv_out", "3x3");
  const std::size_t parameters =
      md::reflect::parameters<W>() + md::reflect::parameters<decltype(Net::Weights::post_quant_conv)>();
  return {"vae.decoder", parameters, Net::decoder_macs, Net::activation_bytes, rows.take()};
}

}  // namespace detail

// Parts in the order of work: text encoders, UNet, VAE encoder, VAE decoder.
template <mobilediffusion::ModelConfig M>
std::vector<GraphPart> graph_table() {
  std::vector<GraphPart> parts{detail::text_encoder_part<M.text>("text_encoder")};
  if constexpr (mobilediffusion::is_present(M.text_2)) parts.push_back(detail::text_encoder_part<M.text_2>("text_encoder_2"));
  parts.push_back(detail::unet_part<M.unet>());
  if constexpr (M.vae.kind == mobilediffusion::VaeKind::autoencoder_tiny) {
    parts.push_back(detail::tiny_vae_part<typename mobilediffusion::Vae<M.vae>::Encoder>("vae.encoder"));
    parts.push_back(detail::tiny_vae_part<typename mobilediffusion::Vae<M.vae>::Decoder>("vae.decoder"));
  } else {
    parts.push_back(detail::vae_encoder_part<M.vae>());
    parts.push_back(detail::vae_decoder_part<M.vae>());
  }
  return parts;
}

}  // namespace examples
