// SPDX-License-Identifier: Apache-2.0
// The models against PyTorch: outputs and the gradients of every weight and input.
#pragma once

#include "golden/golden.hpp"
#include "mobilediffusion/models/text_encoder.hpp"
#include "mobilediffusion/models/unet.hpp"
#include "mobilediffusion/models/vae.hpp"

namespace golden {

using mobilediffusion::Context;
using mobilediffusion::Plan;

// conditioning(case): what the file holds of it. Gradients of the pooled vector are compared if `pooled`.
template <mobilediffusion::UnetConfig C, class Conditioning>
void unet(const char* file, const char* name, bool pooled, Conditioning&& conditioning) {
  using Model = mobilediffusion::Unet<C>;
  Case<typename Model::Weights> g(file, name);
  typename Model::Saved saved;
  g.run(
      Model::stack_floats(Plan::inference, batch),
      [&](Context& c, const auto& w) {
        Model::forward(c, w, g.input("z"), g.input("timesteps"), conditioning(g), g.output("y"), saved);
      },
      [&](Context& c, const auto& w, const auto& d) {
        Model::backward(c, w, d, saved, g.cotangent("y"), g.assigned("z"),
                        {g.added("context"), pooled ? g.added("pooled") : nullptr});
      });
}

template <mobilediffusion::UnetConfig C>
void unet(const char* file) {
  constexpr bool pooled = C.pooled_width != 0;
  unet<C>(file, "unet", pooled, [](auto& g) {
    return mobilediffusion::Conditioning{.context = g.input("context"), .pooled = pooled ? g.input("pooled") : nullptr};
  });
}

template <mobilediffusion::VaeConfig C>
void vae(const char* file, const char* name = "vae") {
  using Model = mobilediffusion::Vae<C>;
  const char* const encoded = C.kind == mobilediffusion::VaeKind::autoencoder_kl ? "moments" : "latents";
  Case<typename Model::Weights> g(file, name);
  typename Model::Encoder::Saved encoder;
  typename Model::Decoder::Saved decoder;
  g.run(
      std::max(Model::Encoder::stack_floats(Plan::inference, batch), Model::Decoder::stack_floats(Plan::inference, batch)),
      [&](Context& c, const auto& w) {
        Model::encode(c, w, g.input("picture"), g.output(encoded), encoder);
        Model::decode(c, w, g.input("z"), g.output("picture"), decoder);
      },
      [&](Context& c, const auto& w, const auto& d) {
        Model::encode_backward(c, w, d, encoder, g.cotangent(encoded));
        Model::decode_backward(c, w, d, decoder, g.cotangent("picture"), g.assigned("z"));
      });
}

template <mobilediffusion::TextEncoderConfig C>
void text(const char* file) {
  using Model = mobilediffusion::TextEncoder<C>;
  Case<typename Model::Weights> g(file, "text");
  typename Model::Saved saved;
  g.run(
      Model::stack_floats(Plan::inference, batch),
      [&](Context& c, const auto& w) {
        Model::forward(c, w, g.ids("ids"), g.output("context"), Model::pooled_floats > 0 ? g.output("pooled") : nullptr, saved);
      },
      [&](Context& c, const auto& w, const auto& d) {
        Model::backward(c, w, d, saved, g.cotangent("context"), Model::pooled_floats > 0 ? g.cotangent("pooled") : nullptr);
      });
}

}  // namespace golden
