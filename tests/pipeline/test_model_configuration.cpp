// SPDX-License-Identifier: Apache-2.0
// Which models a file is for: what changes pictures with equal tensors counts, the size of pictures and the defaults of requests
// do not.
#include <mobilediffusion/model_file.hpp>

#include "catch.hpp"
#include "io/temporary_folder.hpp"

namespace test_model_configuration_cpp {

using namespace mobilediffusion;

namespace {
constexpr ModelConfig wide = presets::with_picture_size(presets::sd15, 512, 768);
constexpr ModelConfig other_defaults = [] {
  ModelConfig m = presets::sd15;
  m.sampler.steps = 1;
  m.sampler.guidance_percent = 100;
  return m;
}();
}  // namespace

TEST_CASE("another size of pictures and other defaults of requests are the same model", "[model_file]") {
  CHECK(configuration_text(wide) == configuration_text(presets::sd15));
  CHECK(configuration_text(other_defaults) == configuration_text(presets::sd15));
}

TEST_CASE("what changes pictures with equal tensors is another model", "[model_file]") {
  // Stable Diffusion 2.1 base and 2.1 have the same tensors.
  CHECK(difference(reflect::describe(meaning_of(presets::sd21)), reflect::describe(meaning_of(presets::sd21_base))) ==
        "\"sampler.prediction\": expected the default, found \"epsilon\"");
  ModelConfig m = presets::sd15;
  m.unet.attention.heads = 4;
  CHECK(configuration_text(m) != configuration_text(presets::sd15));
  m = presets::sd15;
  m.unet.attention.kind = AttentionKind::relu;
  CHECK(configuration_text(m) != configuration_text(presets::sd15));
  m = presets::sd15;
  m.vae.scaling_millionths = 1;
  CHECK(configuration_text(m) != configuration_text(presets::sd15));
}

TEST_CASE("the words of a configuration are part of the file format", "[model_file]") {
  CHECK(configuration_text(presets::sd15) ==
        "sampler.prediction=epsilon unet.attention.head_dim=0 unet.attention.heads=8 unet.attention.shared_kv=false "
        "unet.feed_forward.activation=gelu unet.feed_forward.ratio=8 unet.levels=4 unet.middle.transformer.depth=1 "
        "unet.stages.0.channels=320 unet.stages.0.down_resnets=2 unet.stages.0.down_transformers.0.depth=1 "
        "unet.stages.0.down_transformers.1.depth=1 unet.stages.0.up_resnets=3 unet.stages.0.up_transformers.0.depth=1 "
        "unet.stages.0.up_transformers.1.depth=1 unet.stages.0.up_transformers.2.depth=1 unet.stages.1.channels=640 "
        "unet.stages.1.down_resnets=2 unet.stages.1.down_transformers.0.depth=1 unet.stages.1.down_transformers.1.depth=1 "
        "unet.stages.1.up_resnets=3 unet.stages.1.up_transformers.0.depth=1 unet.stages.1.up_transformers.1.depth=1 "
        "unet.stages.1.up_transformers.2.depth=1 unet.stages.2.channels=1280 unet.stages.2.down_resnets=2 "
        "unet.stages.2.down_transformers.0.depth=1 unet.stages.2.down_transformers.1.depth=1 unet.stages.2.up_resnets=3 "
        "unet.stages.2.up_transformers.0.depth=1 unet.stages.2.up_transformers.1.depth=1 "
        "unet.stages.2.up_transformers.2.depth=1 unet.stages.3.channels=1280 unet.stages.3.down_resnets=2 "
        "unet.stages.3.up_resnets=3");
}

TEST_CASE("models from before configurations had words are known by their number", "[model_file]") {
  const TemporaryFolder folder;
  const auto file = [&](const Metadata& metadata) {
    write_safetensors(folder / "file", std::vector<TensorToWrite>{}, metadata);
    return SafetensorsFile(folder / "file");
  };
  CHECK(read_configuration(file({{"mobilediffusion.fingerprint", "d85a0e3f802e06e2"}})) ==
        reflect::describe(meaning_of(presets::emoji)));
  CHECK_THROWS_AS(read_configuration(file({{"mobilediffusion.fingerprint", "d85a0e3f802e06e3"}})), Error);
  CHECK_THROWS_AS(read_configuration(file({})), Error);
}

}  // namespace test_model_configuration_cpp
