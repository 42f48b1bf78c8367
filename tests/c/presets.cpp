// SPDX-License-Identifier: Apache-2.0
// A library for C of several presets: a file is opened by the first that it fits, or by the one that is asked for.
#define MOBILEDIFFUSION_C_PRESETS MOBILEDIFFUSION_C_PRESET(sd_toy) MOBILEDIFFUSION_C_PRESET(tiny)
#include "../../cmake/mobilediffusion_c.cpp"
#include "../io/temporary_folder.hpp"
#include "../pipeline/model_files.hpp"
#include "catch.hpp"

TEST_CASE("a file is opened by the preset that it fits", "[c]") {
  const TemporaryFolder folder;
  const std::string path = (folder / "tiny.safetensors").string();
  model_files::RandomModel<md::presets::tiny>().write(path);
  mobilediffusion_error error{};
  mobilediffusion_model* model = nullptr;
  mobilediffusion_model_options options;
  mobilediffusion_model_options_init(&options);
  REQUIRE(mobilediffusion_preset_count() == 2);

  REQUIRE(mobilediffusion_model_open(path.c_str(), &options, &model, &error) == MOBILEDIFFUSION_OK);
  mobilediffusion_info info;
  mobilediffusion_info_init(&info);
  CHECK(mobilediffusion_model_info(model, &info, &error) == MOBILEDIFFUSION_OK);
  CHECK(info.preset == std::string("tiny"));
  CHECK(mobilediffusion_model_word_count(model) == 0);
  mobilediffusion_model_close(model);
  options.preset = "tiny";
  CHECK(mobilediffusion_model_open(path.c_str(), &options, &model, &error) == MOBILEDIFFUSION_OK);
  mobilediffusion_model_close(model);

  const auto refusal = [&](const char* file) {
    CHECK(mobilediffusion_model_open(file, &options, &model, &error) == MOBILEDIFFUSION_BAD_MODEL);
    return std::string(error.message);
  };
  options.preset = "sd_toy";  // its reason alone
  CHECK(refusal(path.c_str()).starts_with("file " + md::detail::printable(path) + ": tensor "));
  options.preset = nullptr;
  CHECK(refusal("nothing") == "file \"nothing\": cannot open: No such file or directory");  // once, not for each
  const std::string other = (folder / "other.safetensors").string();
  md::write_safetensors(other, {}, {{"mobilediffusion.configuration", ""}});
  CHECK(refusal(other.c_str()).starts_with("expected a model of one of the presets sd_toy, tiny; sd_toy: file "));
  CHECK(error.message[sizeof error.message - 1] == '\0');
}
