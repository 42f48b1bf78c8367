// SPDX-License-Identifier: Apache-2.0
// What a configuration differs in from the defaults, by name: what model files are compared by. And all of it, as JSON.
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/io/atomic_file.hpp>
#include <mobilediffusion/reflect/describe.hpp>
#include <nlohmann/json.hpp>

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

TEST_CASE("a configuration as JSON has every field", "[reflect]") {
  // Every field of every struct; examples/pytorch builds its modules from the same file.
  const auto golden = [](const char* name) { return read_file(std::string(MOBILEDIFFUSION_TEST_DATA) + "/" + name + ".json"); };
  CHECK(reflect::json(presets::tiny) + "\n" == golden("tiny"));
  CHECK(reflect::json(presets::full) + "\n" == golden("full"));
  CHECK(reflect::json(SeparableConfig{.conv2 = true}, "    ") == R"({"conv1": false, "conv2": true})");
  CHECK(reflect::json(MiddleConfig{.transformer = {.depth = 3}}, " ") == R"({
   "resnets": 2,
   "transformer": {"depth": 3, "self_attention": true, "cross_attention": true, "self_reads_context": false},
   "separable": {"conv1": false, "conv2": false}
 })");
}

TEST_CASE("a configuration as JSON is JSON, with words for enumerators", "[reflect]") {
  const auto parsed = [](const ModelConfig& m) { return nlohmann::json::parse(reflect::json(m)); };
  ModelConfig m = presets::sdxl;
  m.unet.attention.kind = AttentionKind::relu;
  m.unet.feed_forward.activation = Activation::quick_gelu;
  m.vae = presets::taesd_16;
  const auto json = parsed(m);
  CHECK(json["text_2"]["projection"] == 1280);
  CHECK(json["unet"]["stages"][2]["up_transformers"][2]["depth"] == 10);
  CHECK(json["unet"]["stages"].size() == 4);
  CHECK(json["unet"]["attention"]["kind"] == "relu");
  CHECK(json["unet"]["feed_forward"]["activation"] == "quick_gelu");
  CHECK(json["vae"]["kind"] == "autoencoder_tiny");
  CHECK(json["vae"]["encoder_channels"] == nlohmann::json{64, 64, 64, 64});
  CHECK(json["sampler"]["prediction"] == "epsilon");
  CHECK(json["sampler"]["schedule"] == "scaled_linear");
  // Whatever the value, the fields are the same ones; what differs between two configurations differs in their JSON.
  const auto flat = [&](const ModelConfig& config) { return parsed(config).flatten(); };
  const auto names = [](const nlohmann::json& values) {
    std::vector<std::string> out;
    for (const auto& [path, value] : values.items()) out.push_back(path);
    return out;
  };
  for (const ModelConfig& config : {presets::emoji, presets::full, presets::ssd_1b, presets::lcm_dreamshaper}) {
    CHECK(names(flat(config)) == names(flat(ModelConfig{})));
    const auto mine = flat(config), otherwise = flat(ModelConfig{});
    std::size_t different = 0;
    for (const auto& [path, value] : mine.items()) different += value != otherwise[path] ? 1 : 0;
    CHECK(different == describe(config).size());
  }
}
