// SPDX-License-Identifier: Apache-2.0
// Gradients of the VAE's encoder and decoder against differences of their outputs.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/models/vae.hpp"

namespace test_gradients_vae_cpp {

using namespace mobilediffusion;
using namespace gradient_tests;

namespace {

// Encoder and decoder have their own halves of the weights; each check leaves the other half's gradients zero.
std::string without_zero_gradients_of(const std::string& faults, const std::string& half) {
  std::istringstream lines(faults);
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    const bool other = line.starts_with(half + ".") || line.starts_with(half == "encoder" ? "quant_conv." : "post_quant_conv.");
    if (!(other && line.ends_with("the gradient is zero"))) kept += line + "\n";
  }
  return kept;
}

template <VaeConfig C>
std::string encoder_faults() {
  using Model = Vae<C>;
  typename Model::Encoder::Saved saved;
  constexpr std::size_t batch = 2;
  using W = typename Model::Weights;
  return without_zero_gradients_of(
      check_gradients<W>(
          {{"picture", batch * Model::picture_floats, Adjoint::none}}, {batch * 2 * Model::latent_floats},
          [&](Context& c, const W& w, const Pointers& x, const Pointers& y) { Model::encode(c, w, x[0], y[0], saved); },
          [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers&) {
            Model::encode_backward(c, w, g, saved, dy[0]);
          },
          {.batch = batch}),
      "decoder");
}

template <VaeConfig C>
std::string decoder_faults() {
  using Model = Vae<C>;
  typename Model::Decoder::Saved saved;
  constexpr std::size_t batch = 2;
  using W = typename Model::Weights;
  return without_zero_gradients_of(
      check_gradients<W>(
          {{"z", batch * Model::latent_floats}}, {batch * Model::picture_floats},
          [&](Context& c, const W& w, const Pointers& x, const Pointers& y) { Model::decode(c, w, x[0], y[0], saved); },
          [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
            Model::decode_backward(c, w, g, saved, dy[0], dx[0]);
          },
          {.batch = batch}),
      "encoder");
}

// What the tiny preset lacks: no patch, no middle, no convolutions around the latents, standard samplers.
constexpr VaeConfig plain{.height = 8,
                          .width = 8,
                          .latent_channels = 2,
                          .levels = 2,
                          .encoder_channels = {8, 8},
                          .decoder_channels = {8, 16},
                          .encoder_resnets = 2,
                          .decoder_resnets = 1,
                          .middle = false,
                          .middle_attention = false,
                          .quant_conv = false,
                          .groups = 4};

// A decoder that is not built as its encoder is: depth to space over a patch, one separable convolution in each block,
// no norms.
constexpr VaeConfig own_decoder{.height = 16,
                                .width = 8,
                                .latent_channels = 2,
                                .patch = 2,
                                .decoder_patch = 4,
                                .levels = 2,
                                .encoder_channels = {8, 8},
                                .decoder_channels = {12},
                                .encoder_resnets = 1,
                                .decoder_resnets = 2,
                                .decoder_middle = false,
                                .decoder_separable = {.conv2 = true},
                                .groups = 4,
                                .decoder_norms = false};

// Activations without normalization.
constexpr VaeConfig without_norms{.height = 16,
                                  .width = 8,
                                  .latent_channels = 2,
                                  .patch = 2,
                                  .levels = 2,
                                  .encoder_channels = {8, 12},
                                  .decoder_channels = {8, 20},
                                  .encoder_resnets = 1,
                                  .decoder_resnets = 2,
                                  .middle_attention = false,
                                  .separable_samplers = true,
                                  .groups = 0};

}  // namespace

TEST_CASE("every gradient of the VAE's encoder is that of its output") {
  CHECK(encoder_faults<presets::tiny.vae>() == "");
  CHECK(encoder_faults<plain>() == "");
  CHECK(encoder_faults<own_decoder>() == "");
  CHECK(encoder_faults<without_norms>() == "");
}

TEST_CASE("every gradient of the VAE's decoder is that of its output") {
  CHECK(decoder_faults<presets::tiny.vae>() == "");
  CHECK(decoder_faults<plain>() == "");
  CHECK(decoder_faults<own_decoder>() == "");
  CHECK(decoder_faults<without_norms>() == "");
}

}  // namespace test_gradients_vae_cpp
