// SPDX-License-Identifier: Apache-2.0
// What published relatives of Stable Diffusion have besides, in small, against diffusers' own models.
#include "golden/golden_models.hpp"
#include "mobilediffusion/config/presets.hpp"

using namespace mobilediffusion;

namespace {

constexpr VaeConfig taesd = [] {
  VaeConfig c = presets::taesd;
  c.height = 8;
  c.width = 16;
  c.levels = 3;
  c.encoder_channels = c.decoder_channels = {8, 8, 8};
  c.encoder_resnets = 2;
  return c;
}();

}  // namespace

TEST_CASE("golden: the tiny autoencoder equals diffusers'") { golden::vae<taesd>("variants", "taesd"); }

TEST_CASE("golden: pictures and latents of a diffusion model by the tiny autoencoder") {
  using Model = Vae<taesd>;
  golden::Case<typename Model::Weights> g("variants", "taesd");
  g.infer(std::max(Model::to_latents_floats(golden::batch), Model::to_picture_floats(golden::batch)),
          [&](Context& c, const auto& w) {
            Model::to_latents(c, w, g.input("picture"), g.output("latents"));
            std::vector<float> z(g.input("z"), g.input("z") + golden::batch * Model::latent_floats);
            Model::to_picture(c, w, z.data(), g.output("picture"));
          });
}
