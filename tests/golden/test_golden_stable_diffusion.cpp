// SPDX-License-Identifier: Apache-2.0
// Stable Diffusion's architecture in small against diffusers' and transformers' own models, by their names.
#include "golden/golden_models.hpp"
#include "mobilediffusion/config/presets.hpp"

using namespace mobilediffusion;

namespace {

constexpr UnetConfig unet{.height = 4,
                          .width = 8,
                          .latent_channels = 4,
                          .levels = 2,
                          .stages = {StageConfig{.channels = 8,
                                                 .down_transformers = {presets::full_blocks(1)},
                                                 .up_transformers = {presets::full_blocks(1), presets::full_blocks(1)}},
                                     StageConfig{.channels = 16}},
                          .middle = {.resnets = 2, .transformer = presets::full_blocks(1)},
                          .attention = {.head_dim = 0, .heads = 1, .shared_kv = false},
                          .feed_forward = {.ratio = 8, .activation = Activation::gelu},
                          .context_length = 3 * 7,  // the golden tensors' prompts are of one chunk
                          .context_width = 16,
                          .groups = 4};
constexpr VaeConfig vae{.height = 8,
                        .width = 16,
                        .levels = 2,
                        .encoder_channels = {8, 16},
                        .decoder_channels = {8, 16},
                        .encoder_resnets = 1,
                        .decoder_resnets = 2,
                        .groups = 4};
constexpr TextEncoderConfig text{.vocabulary = 40, .length = 7, .width = 16, .layers = 2, .heads = 2};

}  // namespace

TEST_CASE("golden: the UNet equals diffusers', also where there is room for longer prompts") {
  golden::unet<unet>("stable_diffusion", "unet", false,
                     [](auto& g) { return Conditioning{.context = g.input("context"), .context_tokens = 7}; });
  golden::Case<Unet<unet>::Weights> g("stable_diffusion", "unet");
  Unet<unet>::Saved saved;
  g.attempt(Unet<unet>::stack_floats(Plan::inference, golden::batch), [&](Context& c, const auto& w) {
    const Conditioning longer{.context = g.input("context"), .context_tokens = 22};
    const auto refusal = [&] {
      try {
        Unet<unet>::forward(c, w, g.input("z"), g.input("timesteps"), longer, g.output("y"), saved);
      } catch (const Error& e) {
        return std::string(e.what());
      }
      return std::string();
    };
    CHECK(refusal() == "unet: expected a context of at most 21 tokens, found 22");
  });
}
TEST_CASE("golden: the VAE equals diffusers'") { golden::vae<vae>("stable_diffusion"); }
TEST_CASE("golden: the text encoder equals transformers'") { golden::text<text>("stable_diffusion"); }
