// SPDX-License-Identifier: Apache-2.0
// diffusers' AutoencoderTiny as a static graph: TAESD (github.com/madebyollin/taesd), which reads and writes the latents of a
// diffusion model as they are.
#pragma once

#include "../core/begin.hpp"

#include <array>
#include <cmath>
#include <cstddef>

#include "../blocks/tiny_layers.hpp"
#include "../config/validate.hpp"
#include "../reflect/reflect.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace lower {

// Blocks at a level: one at the picture's, where they cost most.
constexpr std::size_t tiny_blocks(std::size_t level, std::size_t below) { return level == 0 ? 1 : below; }

constexpr std::size_t tiny_encoder_size(const VaeConfig& c) {
  std::size_t n = c.levels + 1;
  for (std::size_t l = 0; l < c.levels; ++l) n += tiny_blocks(l, c.encoder_resnets);
  return n;
}
// A convolution into each level, its blocks, and one to the latents.
template <VaeConfig C>
constexpr auto tiny_encoder() {
  constexpr std::size_t width = C.encoder_channels[0];
  std::array<TinyLayerSpec, tiny_encoder_size(C)> layers{};
  std::size_t n = 0;
  const auto at = [&](std::size_t level) {
    return TinyLayerSpec{.in = width, .out = width, .height = C.height >> level, .width = C.width >> level};
  };
  for (std::size_t l = 0; l < C.levels; ++l) {
    TinyLayerSpec into = at(l == 0 ? 0 : l - 1);
    into.kind = TinyLayerKind::convolution;
    if (l == 0) into.in = 3;
    into.stride = l == 0 ? 1 : 2;
    into.bias = l == 0;
    layers[n++] = into;
    TinyLayerSpec block = at(l);
    block.kind = TinyLayerKind::block;
    for (std::size_t i = 0; i < tiny_blocks(l, C.encoder_resnets); ++i) layers[n++] = block;
  }
  TinyLayerSpec out = at(C.levels - 1);
  out.kind = TinyLayerKind::convolution;
  out.out = C.latent_channels;
  layers[n++] = out;
  return layers;
}

constexpr std::size_t tiny_decoder_size(const VaeConfig& c) {
  std::size_t n = 2 + 2 * c.levels - 1;
  for (std::size_t l = 0; l < c.levels; ++l) n += tiny_blocks(l, c.decoder_resnets);
  return n;
}
// A convolution and its ReLU; at each level from the lowest its blocks, then a doubling and a convolution, or the one to the
// picture.
template <VaeConfig C>
constexpr auto tiny_decoder() {
  constexpr std::size_t width = C.decoder_channels[0];
  std::array<TinyLayerSpec, tiny_decoder_size(C)> layers{};
  std::size_t n = 0;
  for (std::size_t l = C.levels; l-- > 0;) {
    TinyLayerSpec layer{.in = width, .out = width, .height = C.height >> l, .width = C.width >> l};
    if (l + 1 == C.levels) {
      TinyLayerSpec in = layer;
      in.kind = TinyLayerKind::convolution;
      in.in = C.latent_channels;
      in.relu = true;
      layers[n] = in;
      n += 2;  // the ReLU has a number
    }
    layer.kind = TinyLayerKind::block;
    for (std::size_t i = 0; i < tiny_blocks(l, C.decoder_resnets); ++i) layers[n++] = layer;
    layer.kind = TinyLayerKind::convolution;
    if (l > 0) {
      ++n;  // and so has the doubling
      layer.upsample = true;
      layer.bias = false;
    } else {
      layer.out = 3;
    }
    layers[n++] = layer;
  }
  return layers;
}

}  // namespace lower

template <VaeConfig C>
class TinyVae {
  static_assert(ValidVae<C>::value);
  static constexpr std::size_t low = C.levels - 1;

 public:
  static constexpr VaeConfig config = C;
  static constexpr std::size_t latent_height = C.height >> low, latent_width = C.width >> low;
  static constexpr std::size_t latent_floats = latent_height * latent_width * C.latent_channels,
                               picture_floats = C.height * C.width * 3;
  static constexpr std::size_t encoded_floats = latent_floats;
  static constexpr float scaling = 1.0f;

  // Picture [batch][height][width][3] in [-1, 1] -> latents [batch][latent pixels][latent_channels] of a diffusion model.
  struct Encoder {
    using Layers = TinyLayers<lower::tiny_encoder_size(C), lower::tiny_encoder<C>()>;
    using Weights = typename Layers::Weights;
    using Saved = typename Layers::Saved;
    static constexpr std::size_t macs = Layers::macs;
    static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
      return Planned{plan}.take(batch * picture_floats).part(Layers::stack_floats(plan, batch)).peak;
    }
    static constexpr std::size_t backward_floats(std::size_t batch) { return Layers::backward_floats(batch); }
    static void forward(Context& c, const Weights& w, const float* picture, float* latents, Saved& s) {
      Scope scope(c.stack);
      float* x = c.stack.take(c.batch * picture_floats);  // in [0, 1]
      for (std::size_t i = 0; i < c.batch * picture_floats; ++i) x[i] = 0.5f * picture[i] + 0.5f;
      Layers::forward(c, w, x, latents, s);
    }
    static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* d_latents) {
      Layers::backward(c, w, g, s, d_latents, nullptr);
    }
  };

  // Latents of a diffusion model -> picture in [-1, 1]. Latents beyond `magnitude` bend back into it.
  struct Decoder {
    using Layers = TinyLayers<lower::tiny_decoder_size(C), lower::tiny_decoder<C>()>;
    using Weights = typename Layers::Weights;
    struct Saved {
      const float* z = nullptr;  // bent
      typename Layers::Saved layers;
    };
    static constexpr float magnitude = 3.0f;
    static constexpr std::size_t macs = Layers::macs;
    static constexpr std::size_t stack_floats(Plan plan, std::size_t batch) {
      return Planned{plan}.take(batch * latent_floats).part(Layers::stack_floats(plan, batch)).peak;
    }
    static constexpr std::size_t backward_floats(std::size_t batch) {
      return aligned(batch * picture_floats) + Layers::backward_floats(batch);
    }
    static void forward(Context& c, const Weights& w, const float* z, float* picture, Saved& s) {
      Scope scope(c.stack);
      float* bent = c.stack.take(c.batch * latent_floats);
      for (std::size_t i = 0; i < c.batch * latent_floats; ++i) bent[i] = magnitude * std::tanh(z[i] / magnitude);
      Layers::forward(c, w, bent, picture, s.layers);
      for (std::size_t i = 0; i < c.batch * picture_floats; ++i) picture[i] = 2.0f * picture[i] - 1.0f;
      s.z = bent;
    }
    // dz is assigned.
    static void backward(Context& c, const Weights& w, const Weights& g, const Saved& s, const float* d_picture, float* dz) {
      Scope scope(c.stack);
      float* d = c.stack.take(c.batch * picture_floats);
      kernels::scale(c.executor, d_picture, 2.0f, d, c.batch * picture_floats);
      Layers::backward(c, w, g, s.layers, d, dz);
      for (std::size_t i = 0; i < c.batch * latent_floats; ++i) {
        const float t = s.z[i] / magnitude;
        dz[i] *= 1.0f - t * t;
      }
    }
  };

  struct Weights {
    typename Encoder::Weights encoder;
    typename Decoder::Weights decoder;
  };
  static constexpr std::size_t parameters = reflect::parameters<Weights>();
  static constexpr std::size_t weight_bytes = 4 * parameters;
  static constexpr std::size_t encoder_macs = Encoder::macs, decoder_macs = Decoder::macs;
  // Of decoding one picture.
  static constexpr std::size_t activation_bytes = 4 * Decoder::stack_floats(Plan::inference, 1);

  static void encode(Context& c, const Weights& w, const float* picture, float* latents, typename Encoder::Saved& s) {
    Encoder::forward(c, w.encoder, picture, latents, s);
  }
  static void decode(Context& c, const Weights& w, const float* z, float* picture, typename Decoder::Saved& s) {
    Decoder::forward(c, w.decoder, z, picture, s);
  }
  static void encode_backward(Context& c, const Weights& w, const Weights& g, const typename Encoder::Saved& s,
                              const float* d_latents) {
    Encoder::backward(c, w.encoder, g.encoder, s, d_latents);
  }
  static void decode_backward(Context& c, const Weights& w, const Weights& g, const typename Decoder::Saved& s,
                              const float* d_picture, float* dz) {
    Decoder::backward(c, w.decoder, g.decoder, s, d_picture, dz);
  }

  // As of every Vae: between pictures in [-1, 1] and the latents of a diffusion model.
  static constexpr bool gives_distribution = false;
  static constexpr std::size_t to_latents_floats(std::size_t batch) { return Encoder::stack_floats(Plan::inference, batch); }
  static void to_latents(Context& c, const Weights& w, const float* picture, float* z) {
    typename Encoder::Saved saved{};
    encode(c, w, picture, z, saved);
  }
  static constexpr std::size_t to_picture_floats(std::size_t batch) { return Decoder::stack_floats(Plan::inference, batch); }
  static void to_picture(Context& c, const Weights& w, float* z, float* picture) {
    typename Decoder::Saved saved{};
    decode(c, w, z, picture, saved);
  }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
