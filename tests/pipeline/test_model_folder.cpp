// SPDX-License-Identifier: Apache-2.0
// Models in the layout of diffusers: a folder for each network, sharded or not, and every way in which one can be wrong.
#include <array>
#include <functional>

#include "../io/clip_files.hpp"
#include "../io/temporary_folder.hpp"
#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/pipeline.hpp"
#include "model_files.hpp"

namespace test_model_folder_cpp {

using namespace mobilediffusion;
using namespace model_files;

namespace {

using Tiny = TextToImage<presets::tiny>;
using Edit = std::function<void(Tensors&)>;

constexpr auto unet_file = "unet/diffusion_pytorch_model.safetensors";

// Writes the three networks, the tokenizer and the scheduler; edit_unet: changes the UNet's list of tensors first.
void write_folder(const std::filesystem::path& root, const ModelWeights<presets::tiny>& weights, const Edit& edit_unet = {},
                  Dtype dtype = Dtype::f32) {
  for (const char* part : {"unet", "vae", "text_encoder", "tokenizer", "scheduler"})
    std::filesystem::create_directories(root / part);
  const auto write = [&](const char* path, const auto& part, const Edit& edit) {
    Tensors tensors;
    list_weights(tensors, "", part, dtype);
    if (edit) edit(tensors);
    write_safetensors(root / path, tensors, {{"format", "pt"}});
  };
  write(unet_file, weights.unet, edit_unet);
  write("vae/diffusion_pytorch_model.safetensors", weights.vae, {});
  write("text_encoder/model.safetensors", weights.text_encoder, {});
  write_file(root / "tokenizer" / "vocab.json", clip_files::vocab());
  write_file(root / "tokenizer" / "merges.txt", clip_files::merges());
  write_file(root / "scheduler" / "scheduler_config.json", R"({"prediction_type": "v_prediction"})");
}

// Splits the UNet's file in two shards with an index.
void shard(const std::filesystem::path& root, const ModelWeights<presets::tiny>& weights) {
  Tensors all;
  list_weights(all, "", weights.unet, Dtype::f32);
  const std::size_t half = all.size() / 2;
  const std::array names{"diffusion_pytorch_model-00001-of-00002.safetensors",
                         "diffusion_pytorch_model-00002-of-00002.safetensors"};
  std::string map;
  for (std::size_t i = 0; i < all.size(); ++i)
    map += (i == 0 ? "\"" : ", \"") + all[i].name + "\": \"" + names[i < half ? 0 : 1] + "\"";
  write_safetensors(root / "unet" / names[0], Tensors(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(half)), {});
  write_safetensors(root / "unet" / names[1], Tensors(all.begin() + static_cast<std::ptrdiff_t>(half), all.end()), {});
  write_file(root / "unet" / "diffusion_pytorch_model.safetensors.index.json",
             "{\"metadata\": {}, \"weight_map\": {" + map + "}}");
  std::filesystem::remove(root / unet_file);
}

std::vector<std::uint8_t> picture(Tiny& model) {
  std::array<std::int32_t, 2 * Tiny::context_length> ids{};
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i % 9);
  std::vector<std::uint8_t> rgb(3 * Tiny::width * Tiny::height);
  CHECK(model.generate(ids, 5, 2, 2.0f, rgb, [](Progress) { return true; }));
  return rgb;
}

}  // namespace

TEST_CASE("a folder of the diffusers layout is the same model, sharded or not, whatever its attention's names", "[pipeline]") {
  const TemporaryFolder folder;
  const RandomModel<presets::tiny> random;
  random.write(folder / "model.safetensors");
  Tiny file(folder / "model.safetensors", 1);
  const auto expected = picture(file);

  const auto root = folder / "model";
  write_folder(root, random.weights);
  Tiny whole(root, 1);
  CHECK(picture(whole) == expected);
  // Its tokenizer is the folder's own.
  CHECK(whole.tokenizer().encode("a red cat", 7)[2] == 22);
  CHECK(whole.generate({.prompt = "a red cat", .seed = 1, .steps = 1}).width == Tiny::width);

  shard(root, random.weights);
  Tiny sharded(root, 1);
  CHECK(picture(sharded) == expected);

  // The first autoencoders that were published have other names; old text encoders store a constant besides.
  Tensors vae, text;
  list_weights(vae, "", random.weights.vae, Dtype::f32);
  std::size_t renamed = 0;
  for (TensorToWrite& t : vae)
    for (const auto& [now, then] :
         {std::pair{".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}})
      if (const std::size_t at = t.name.find(now); at != std::string::npos) {
        t.name.replace(at, std::string(now).size(), then);
        ++renamed;
      }
  CHECK(renamed == 16);
  write_safetensors(root / "vae" / "diffusion_pytorch_model.safetensors", vae, {});
  list_weights(text, "", random.weights.text_encoder, Dtype::f32);
  text.push_back({.name = "text_model.embeddings.position_ids", .dtype = Dtype::i64, .shape = {0}, .fill = [](auto) {}});
  for (const char* name : {"text_projection.weight", "logit_scale", "vision_model.embeddings.class_embedding"})
    text.push_back({.name = name, .shape = {0}});
  write_safetensors(root / "text_encoder" / "model.safetensors", text, {});
  Tiny old(root, 1);
  CHECK(picture(old) == expected);

  // transformers 5 saves a text encoder without its prefix, and a tokenizer as one file.
  text.clear();
  list_weights(text, "", random.weights.text_encoder, Dtype::f32);
  for (TensorToWrite& t : text) {
    REQUIRE(t.name.starts_with("text_model."));
    t.name.erase(0, std::string("text_model.").size());
  }
  write_safetensors(root / "text_encoder" / "model.safetensors", text, {});
  std::filesystem::remove(root / "tokenizer" / "vocab.json");
  std::filesystem::remove(root / "tokenizer" / "merges.txt");
  write_file(root / "tokenizer" / "tokenizer.json", clip_files::tokenizer_json());
  Tiny bare(root, 1);
  CHECK(picture(bare) == expected);
  CHECK(bare.tokenizer().encode("a red cat", 7) == whole.tokenizer().encode("a red cat", 7));

  // Its padding is a token of its own also in a prompt, as transformers has it.
  write_file(root / "tokenizer" / "tokenizer_config.json", R"({"pad_token": "!"})");
  Tiny padded(root, 1);
  CHECK(padded.tokenizer().encode("red!", 5) == std::vector<std::int32_t>{27, 22, 0, 28, 0});

  // Shards of a variant: only the index tells which.
  std::filesystem::rename(root / "unet" / "diffusion_pytorch_model.safetensors.index.json",
                          root / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json");
  Tiny variant(root, 1);
  CHECK(picture(variant) == expected);

  // As older folders call it.
  std::filesystem::rename(root / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json",
                          root / "unet" / "diffusion_pytorch_model.safetensors.fp16.index.json");
  Tiny older(root, 1);
  CHECK(picture(older) == expected);

  // Half precision, by its usual file name; networks of one folder may be of different variants.
  write_folder(folder / "half", random.weights, {}, Dtype::f16);
  for (const auto& [path, variant] : {std::pair{"unet/diffusion_pytorch_model", ".fp16"},
                                      {"vae/diffusion_pytorch_model", ".bf16"},
                                      {"text_encoder/model", ".non_ema"}})
    std::filesystem::rename(folder / "half" / (std::string(path) + ".safetensors"),
                            folder / "half" / (std::string(path) + variant + ".safetensors"));
  Tiny half(folder / "half", 1);
  const auto near = picture(half);
  int most = 0;
  for (std::size_t i = 0; i < near.size(); ++i) most = std::max(most, std::abs(int{near[i]} - int{expected[i]}));
  CHECK(most <= 8);
}

TEST_CASE("a folder's scheduler is the sampler of requests that do not choose one", "[pipeline]") {
  const TemporaryFolder folder;
  const RandomModel<presets::tiny> random;
  const auto root = folder / "model";
  write_folder(root, random.weights);
  const auto with = [&](const char* scheduler) {
    write_file(root / "scheduler" / "scheduler_config.json", scheduler);
    return Tiny(root, 1);
  };
  const Request request{.prompt = "a red cat", .seed = 1, .steps = 3};
  Tiny plain = with(R"({"prediction_type": "v_prediction"})");
  CHECK(plain.sampling().sampler == Sampler(Ddim{}));
  CHECK(plain.model().note().empty());
  Tiny euler = with(R"({"prediction_type": "v_prediction", "_class_name": "EulerDiscreteScheduler",
                        "timestep_spacing": "trailing", "use_karras_sigmas": true})");
  const Euler expected{.spacing = Spacing::trailing, .karras = true};
  CHECK(euler.sampling().sampler == Sampler(expected));
  CHECK(euler.generate(request) != plain.generate(request));
  Request chosen = request;
  chosen.sampler = expected;
  CHECK(euler.generate(request) == plain.generate(chosen));
  Tiny heun = with(R"({"prediction_type": "v_prediction", "_class_name": "HeunDiscreteScheduler"})");
  expect(heun.model().note(), "HeunDiscreteScheduler is not one of the samplers; drawn with euler");
}

TEST_CASE("a folder that is not the model is refused before anything is used", "[pipeline]") {
  const RandomModel<presets::tiny> random;
  const auto refusal = [&](const Edit& edit_unet, const std::function<void(const std::filesystem::path&)>& then = {}) {
    const TemporaryFolder folder;
    const auto root = folder / "model";
    write_folder(root, random.weights, edit_unet);
    if (then) then(root);
    return error_of([&] { Tiny model(root, 1); });
  };
  const auto without = [](const char* name) {
    return [=](Tensors& t) { std::erase_if(t, [&](const auto& x) { return x.name == name; }); };
  };
  CHECK(refusal({}).empty());
  expect(refusal(without("conv_in.bias")), "tensor \"conv_in.bias\": missing, expected shape [8]");
  expect(refusal([](Tensors& t) { t.push_back({.name = "extra", .shape = {0}}); }), "tensor \"extra\": unknown to the model");
  // Also one without elements where a known one begins.
  expect(refusal([](Tensors& t) { t.insert(t.begin(), {.name = "extra", .shape = {0}}); }),
         "tensor \"extra\": unknown to the model");
  expect(refusal([](Tensors& t) { std::swap(tensor(t, "conv_in.weight").shape[0], tensor(t, "conv_in.weight").shape[1]); }),
         "tensor \"conv_in.weight\": expected shape [8, 3, 3, 3], found [3, 8, 3, 3]");
  expect(refusal([](Tensors& t) { put_last_float(tensor(t, "conv_in.bias"), std::numeric_limits<float>::quiet_NaN()); }),
         "tensor \"conv_in.bias\": expected finite numbers");
  expect(refusal([](Tensors& t) {
           TensorToWrite& b = tensor(t, "conv_in.bias");
           b = {.name = b.name, .dtype = Dtype::i32, .shape = {8}, .fill = [](auto) {}};
         }),
         "expected dtype F32, F16, BF16, F8_E4M3 or F8_E5M2, found I32");

  const auto remove = [](const char* what) { return [=](const auto& root) { std::filesystem::remove_all(root / what); }; };
  const auto replace = [](const char* what, const char* with) {
    return [=](const auto& root) { write_file(root / what, std::string_view(with)); };
  };
  expect(refusal({}, remove("vae")), "expected diffusion_pytorch_model.safetensors or");
  expect(refusal({}, remove("text_encoder/model.safetensors")), "expected model.safetensors or");
  expect(refusal({}, remove("tokenizer/merges.txt")), "merges.txt");
  expect(refusal({}, replace("tokenizer/vocab.json", "{}")), "vocab.json: expected an object");
  expect(refusal({}, replace("tokenizer/special_tokens_map.json", R"({"pad_token": "<pad>"})")), "\"<pad>\": missing");
  expect(refusal({}, replace("scheduler/scheduler_config.json", R"({"prediction_type": "epsilon"})")),
         "scheduler_config.json\": prediction_type: expected v_prediction (the configuration's `sampler.prediction`), found "
         "\"epsilon\"");
  expect(refusal({}, replace("scheduler/scheduler_config.json", "{}")), "found none, which means \"epsilon\"");
  expect(refusal({}, replace("unet/config.json", R"({"attention_head_dim": [7, 2, 3]})")),
         "norm_num_groups: expected 4, found none");
  expect(refusal({}, replace("unet/config.json", R"({"attention_head_dim": 2})")),
         "unet/config.json\": attention_head_dim: expected ");
  expect(refusal({}, replace("vae/config.json", R"({"scaling_factor": 2})")),
         "vae/config.json\": scaling_factor: expected 1.0, found 2");
  expect(refusal({}, replace("text_encoder/config.json", R"({"num_attention_heads": 4})")),
         "text_encoder/config.json\": num_attention_heads: expected 2, found 4");
  expect(refusal({}, replace("unet/config.json", "[")), "unet/config.json\": expected a JSON object");
  expect(refusal({}, replace("tokenizer/special_tokens_map.json", "[")), "special_tokens_map.json: expected a JSON object");
  expect(refusal({}, [](const auto& root) { write_file(root / "tokenizer/tokenizer_config.json", std::string(2 << 20, ' ')); }),
         "at most 1048576 are expected");
  expect(refusal({},
                 [](const auto& root) {
                   std::filesystem::remove(root / unet_file);
                   write_file(root / "unet/diffusion_pytorch_model.bin", "x");
                 }),
         "found neither; diffusion_pytorch_model.bin is there, but pickles are not read");
  expect(refusal({}, replace("vae/diffusion_pytorch_model.safetensors", "12345678")), "diffusion_pytorch_model.safetensors");

  const auto sharded = [&](const std::function<void(const std::filesystem::path&)>& then) {
    return refusal({}, [&](const std::filesystem::path& root) {
      shard(root, random.weights);
      then(root);
    });
  };
  const std::string second = "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
                    index = "unet/diffusion_pytorch_model.safetensors.index.json";
  expect(sharded(remove(second.c_str())), "shard \"diffusion_pytorch_model-00002-of-00002.safetensors\": missing");
  expect(sharded([&](const auto& root) { std::filesystem::resize_file(root / second, 100); }), "00002-of-00002");
  expect(sharded(replace(index.c_str(), "{}")), "expected an object \"weight_map\"");
  expect(sharded(replace(index.c_str(), R"({"weight_map": {"conv_in.bias": "../secret.safetensors"}})")),
         "is not in this folder");
  expect(sharded(replace(index.c_str(), R"({"weight_map": {"nothing": "diffusion_pytorch_model-00001-of-00002.safetensors"}})")),
         "tensor \"nothing\": missing in shard");
  expect(sharded(
             replace(index.c_str(), R"({"weight_map": {"conv_in.bias": "diffusion_pytorch_model-00001-of-00002.safetensors"}})")),
         "is not in the index");
}

TEST_CASE("linear layers may be stored as convolutions of one pixel, and the reverse", "[pipeline]") {
  const TemporaryFolder folder;
  const RandomModel<presets::tiny> random;
  const auto root = folder / "model";
  write_folder(root, random.weights);
  Tiny plain(root, 1);
  const auto expected = picture(plain);
  std::size_t flattened = 0, raised = 0;
  write_folder(root, random.weights, [&](Tensors& tensors) {
    for (TensorToWrite& t : tensors)
      if (t.name.ends_with(".proj_in.weight") || t.name.ends_with(".proj_out.weight")) {
        REQUIRE(t.shape.size() == 4);
        t.shape.resize(2);
        ++flattened;
      } else if (t.name.ends_with(".to_q.weight")) {
        t.shape.resize(4, 1);
        ++raised;
      }
  });
  CHECK(flattened > 0);
  CHECK(raised > 0);
  Tiny other(root, 1);
  CHECK(picture(other) == expected);
  // Other numbers than ones at the end are no such thing.
  write_folder(root, random.weights, [](Tensors& t) {
    auto& shape = tensor(t, "conv_in.weight").shape;
    shape = {8, 3, 9};
  });
  expect(error_of([&] { Tiny model(root, 1); }), "tensor \"conv_in.weight\": expected shape [8, 3, 3, 3], found [8, 3, 9]");
}

TEST_CASE("what is no model of ours says what it is", "[pipeline]") {
  const TemporaryFolder folder;
  const auto found = [&](const char* tensor) {
    const std::vector<float> one(1);
    write_safetensors(folder / "file", std::vector<TensorToWrite>{{.name = tensor, .shape = {1}, .floats = one}});
    return error_of([&] { Tiny model(folder / "file", 1); });
  };
  expect(found("model.diffusion_model.input_blocks.0.0.weight"), "found none that is an autoencoder, but a UNet alone");
  expect(found("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"),
         "found adapters without a model: LoRA in kohya's names");
  expect(found("down_blocks.0.resnets.0.conv1.weight"), "found a UNet alone");
  expect(found("decoder.conv_in.weight"), "found an autoencoder alone");
  expect(found("text_model.final_layer_norm.weight"), "found a text encoder alone");
  expect(found("something"), "metadata \"mobilediffusion.configuration\": missing");
  const auto at = [&](const std::string& name) { return error_of([&] { Tiny model(folder / name, 1); }); };
  write_file(folder / "sd.ckpt", "PK\x03\x04 and so on");
  expect(at("sd.ckpt"), "found a PyTorch archive (.ckpt, .bin, .pt or .pth); convert it");
  expect(at(std::string(256, 'n')), "cannot open: File name too long");
  std::filesystem::create_symlink("a", folder / "b");
  std::filesystem::create_symlink("b", folder / "a");
  expect(at("a"), "a\": cannot open: ");
  std::filesystem::create_directory(folder / "empty");
  expect(at("empty"), "nor a folder of the diffusers layout: unet is missing");
  write_folder(folder / "model", RandomModel<presets::tiny>().weights);
  write_file(folder / "model/unet/config.json", "{}");
  expect(at("model/unet"), "unet is missing; it looks like one network of such a folder");
  std::filesystem::remove(folder / "model" / unet_file);
  std::filesystem::create_symlink("diffusion_pytorch_model.safetensors", folder / "model" / unet_file);
  expect(at("model"), "cannot open: ");
}

TEST_CASE("the UNet of a known preset is named", "[pipeline]") {
  std::vector<TensorView> tensors(442);
  for (TensorView& t : tensors) t = {.name = "t", .dtype = Dtype::f16, .shape = {1}, .size = 2};
  CHECK(detail::preset_of(tensors).empty());
  tensors.back().size = 2 * (579'384'964 - 441);  // only its size is looked at
  CHECK(detail::preset_of(tensors) == "presets::bk_sdm_base");
}

TEST_CASE("vectors of textual inversion are read as if they were rows of the text encoder's table", "[pipeline]") {
  const TemporaryFolder folder;
  const RandomModel<presets::tiny> random;
  const auto root = folder / "model", path = folder / "toy.safetensors";
  write_folder(root, random.weights);
  // Those of "red" and "cat" under another name.
  constexpr std::size_t width = presets::tiny.text.width;
  const float* const table = random.weights.text_encoder.text_model.embeddings.token_embedding.weight.data;
  std::vector<float> rows(table + 22 * width, table + 23 * width);
  rows.insert(rows.end(), table + 24 * width, table + 25 * width);
  const Tensors tensors{{.name = "<toy>", .shape = {2, width}, .floats = rows}};
  write_safetensors(path, tensors, {});

  Tiny plain(root, 1);
  const Model<presets::tiny> model(ModelPaths{root}, {}, {{path}});
  CHECK(model.tokens() == presets::tiny.text.vocabulary + 2);
  CHECK(model.tokenizer().encode("a <toy>", 6) == std::vector<std::int32_t>{27, 11, 40, 41, 28, 28});
  Session<presets::tiny> session(model, {.threads = 1});
  const auto draw = [](auto& with, const char* prompt) {
    return with.generate({.prompt = prompt, .negative = "red", .seed = 1, .steps = 1, .guidance = 2.0f});
  };
  CHECK(draw(session, "a <Toy>") == draw(plain, "a red cat"));
  CHECK(draw(session, "a <toy>_1") == draw(plain, "a cat"));
  CHECK(draw(session, "a red cat") == draw(plain, "a red cat"));
  CHECK(draw(session, "a <toy>") != draw(plain, "a <toy>"));

  std::array<std::int32_t, 2 * Tiny::context_length> ids{};
  std::vector<std::uint8_t> rgb(3 * Tiny::width * Tiny::height);
  const auto go_on = [](Progress) { return true; };
  ids[3] = 41;
  CHECK(session.generate(ids, 5, 1, 1.0f, rgb, go_on));
  ids[3] = 42;
  expect(error_of([&] { session.generate(ids, 5, 1, 1.0f, rgb, go_on); }), "token id: expected 0 to 41, found 42");
  ids[3] = 40;
  expect(error_of([&] { plain.generate(ids, 5, 1, 1.0f, rgb, go_on); }), "token id: expected 0 to 39, found 40");

  random.write(folder / "model.safetensors");
  expect(error_of([&] { Model<presets::tiny>(ModelPaths{folder / "model.safetensors"}, {}, {{path}}); }),
         "tokenizer: expected CLIP's to add tokens to, found a sentencepiece model");
}

}  // namespace test_model_folder_cpp
