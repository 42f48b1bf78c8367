// SPDX-License-Identifier: Apache-2.0
// What a configuration differs in from the defaults, by name: what model files are compared by.
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/reflect/describe.hpp>

#include "catch.hpp"

using namespace mobilediffusion;
using reflect::describe;

TEST_CASE("a default configuration has nothing to describe", "[reflect]") { CHECK(describe(ModelConfig{}).empty()); }

TEST_CASE("fields are described by their paths, in words", "[reflect]") {
  ModelConfig m;
  m.text.causal = false;
  m.unet.stages[1].up_transformers[2].depth = 3;
  m.unet.attention.kind = AttentionKind::relu;
  m.unet.feed_forward.activation = Activation::gelu;
  m.vae.decoder_channels[3] = 320;
  m.sampler.schedule = Schedule::cosine;
  m.sampler.prediction = Prediction::sample;
  CHECK(describe(m) == reflect::Fields{{"text.causal", "false"},
                                       {"unet.stages.1.up_transformers.2.depth", "3"},
                                       {"unet.attention.kind", "relu"},
                                       {"unet.feed_forward.activation", "gelu"},
                                       {"vae.decoder_channels.3", "320"},
                                       {"sampler.schedule", "cosine"},
                                       {"sampler.prediction", "sample"}});
}

TEST_CASE("presets differ by their descriptions", "[reflect]") {
  CHECK(describe(presets::tiny) != describe(presets::emoji));
  CHECK(describe(presets::full) != describe(presets::lite));
}
