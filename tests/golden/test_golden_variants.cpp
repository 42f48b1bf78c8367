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

// Stable Diffusion's blocks at two levels, with transformers at those of which the depth is given.
constexpr UnetConfig two_levels(std::size_t depth0, std::size_t depth1) {
  UnetConfig c{.height = 4,
               .width = 8,
               .levels = 2,
               .stages = {StageConfig{.channels = 8}, StageConfig{.channels = 16}},
               .middle = {.resnets = 0},
               .attention = {.head_dim = 8, .shared_kv = false, .linear_projections = true},
               .feed_forward = {.ratio = 8, .activation = Activation::gelu},
               .context_length = 7,
               .context_width = 16,
               .groups = 4};
  for (std::size_t l = 0; l < 2; ++l) {
    const TransformerConfig t{.depth = l == 0 ? depth0 : depth1};
    c.stages[l].down_transformers = {t};
    c.stages[l].up_transformers = {t, t};
  }
  return c;
}
constexpr UnetConfig lcm_inpainting = [] {
  UnetConfig c = two_levels(1, 0);
  c.input_channels = 9;
  c.guidance_width = 12;
  c.attention.linear_projections = false;
  return c;
}();
constexpr UnetConfig sdxs = [] {
  UnetConfig c = two_levels(1, 1);
  c.attention.head_dim = 0;
  c.attention.heads = 1;
  c.stages[1].heads = 2;
  c.stages[0].down_transformers[0].self_reads_context = true;
  for (std::size_t i = 0; i < 2; ++i) c.stages[0].up_transformers[i].self_reads_context = true;
  return c;
}();
constexpr std::size_t sizes = 6, size_width = 6, text_width = 10;
constexpr UnetConfig sdxl = [] {
  UnetConfig c = two_levels(0, 2);
  c.middle = {.resnets = 2, .transformer = {.depth = 2}};
  c.pooled_width = text_width + sizes * size_width;
  return c;
}();

constexpr TextEncoderConfig text{.vocabulary = 40,
                                 .length = 7,
                                 .width = 16,
                                 .layers = 3,
                                 .heads = 2,
                                 .activation = Activation::gelu,
                                 .penultimate = true,
                                 .projection = 12};
constexpr TextEncoderConfig text_alone = [] {
  TextEncoderConfig c = text;
  c.projection = 0;
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

TEST_CASE("golden: the UNet of a latent consistency inpainting model equals diffusers'") {
  golden::unet<lcm_inpainting>("variants", "lcm_inpainting", false, [](auto& g) {
    return Conditioning{.context = g.input("context"), .guidance = g.input("guidance"), .beside = g.input("beside")};
  });
}

TEST_CASE("golden: the UNet of SDXS equals diffusers'") {
  golden::unet<sdxs>("variants", "sdxs", false, [](auto& g) { return Conditioning{.context = g.input("context")}; });
}

TEST_CASE("golden: the UNet of Stable Diffusion XL equals diffusers'") {
  const Executor executor(1);
  std::vector<float> sinusoids(golden::batch * sizes * size_width), pooled(golden::batch * sdxl.pooled_width);
  golden::unet<sdxl>("variants", "sdxl", false, [&](auto& g) {
    kernels::timestep_embedding(g.input("sizes"), golden::batch * sizes, size_width, sinusoids.data());
    kernels::concat_channels(executor, g.input("text"), text_width, sinusoids.data(), sizes * size_width, pooled.data(),
                             golden::batch);
    return Conditioning{.context = g.input("context"), .pooled = pooled.data()};
  });
}

TEST_CASE("a UNet says what it reads and was not given") {
  using Model = Unet<lcm_inpainting>;
  golden::Case<typename Model::Weights> g("variants", "lcm_inpainting");
  typename Model::Saved saved;
  const auto refusal = [&](const Conditioning& conditioning) {
    std::string text;
    g.attempt(Model::stack_floats(Plan::inference, golden::batch), [&](Context& c, const auto& w) {
      try {
        Model::forward(c, w, g.input("z"), g.input("timesteps"), conditioning, g.output("y"), saved);
      } catch (const Error& e) {
        text = e.what();
      }
    });
    return text;
  };
  CHECK(refusal({.context = g.input("context"), .beside = g.input("beside")}) ==
        "unet: expected the guidance of each image, which it embeds, found none");
  CHECK(refusal({.context = g.input("context"), .guidance = g.input("guidance")}) ==
        "unet: expected what it reads beside the latents, found none");
}

TEST_CASE("golden: the text encoder with projection equals transformers'") { golden::text<text>("variants"); }

TEST_CASE("golden: the context before the last layer needs no projection") {
  golden::Case<TextEncoder<text>::Weights> g("variants", "text");
  std::vector<float> context(golden::batch * TextEncoder<text_alone>::context_floats);
  g.attempt(TextEncoder<text>::stack_floats(Plan::inference, golden::batch), [&](Context& c, const auto& w) {
    TextEncoder<text_alone>::Weights alone;
    auto of = w;
    for (const auto& to : reflect::leafs(alone))
      for (const auto& from : reflect::leafs(of))
        if (from.path == to.path) *to.slot = from.data();
    TextEncoder<text_alone>::Saved saved;
    TextEncoder<text_alone>::forward(c, alone, g.ids("ids"), context.data(), nullptr, saved);
  });
  g.check("outputs/context", context);
}
