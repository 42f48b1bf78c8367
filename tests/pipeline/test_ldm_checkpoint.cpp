// SPDX-License-Identifier: Apache-2.0
// One-file checkpoints of the LDM layout: the same weights as in a folder, in every storage, and every way in which one can be
// wrong.
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <span>
#include <string_view>

#include "../io/clip_files.hpp"
#include "../io/temporary_folder.hpp"
#include "catch.hpp"
#include "ldm_files.hpp"
#include "mobilediffusion/io/vae_file.hpp"
#include "mobilediffusion/model_kind.hpp"
#include "mobilediffusion/model_source.hpp"
#include "model_files.hpp"

namespace test_ldm_checkpoint_cpp {

using namespace mobilediffusion;
using namespace model_files;
using namespace ldm_files;

namespace {

// Stable Diffusion in small: two levels, transformers at the upper one.
constexpr TransformerConfig one{.depth = 1};
constexpr ModelConfig toy{
    .text = {.vocabulary = 40, .length = 7, .width = 16, .layers = 2, .heads = 2},
    .unet = {.height = 4,
             .width = 4,
             .latent_channels = 4,
             .levels = 2,
             .stages = {StageConfig{.channels = 8, .down_transformers = {one}, .up_transformers = {one, one}},
                        StageConfig{.channels = 16}},
             .middle = {.resnets = 2, .transformer = one},
             .attention = {.head_dim = 0, .heads = 1, .shared_kv = false},
             .feed_forward = {.ratio = 8, .activation = Activation::gelu},
             .context_length = 7,
             .context_width = 16,
             .groups = 4},
    .vae = {.height = 8,
            .width = 8,
            .levels = 2,
            .encoder_channels = {8, 16},
            .decoder_channels = {8, 16},
            .encoder_resnets = 1,
            .decoder_resnets = 2,
            .groups = 4},
    .sampler = {.prediction = Prediction::epsilon}};
using Weights = ModelWeights<toy>;
using Edit = std::function<void(Tensors&)>;

Tensors checkpoint(const Weights& weights, Layout layout = {}, Dtype dtype = Dtype::f32) {
  return checkpoint_of<toy>(weights, layout, dtype);
}

// All that a source gives, in the order of memory.
std::vector<float> read_all(const ModelSource<toy>& source) {
  std::vector<float> memory(reflect::storage_floats<Weights>());
  Weights weights{};
  reflect::bind(weights, memory.data());
  source.read(weights, [](const reflect::LeafView& leaf, std::span<const float> values) {
    std::copy(values.begin(), values.end(), leaf.data());
  });
  return memory;
}

void write_folder(const std::filesystem::path& root, const Weights& weights, Dtype dtype) {
  const auto write = [&](const char* part, const char* stem, const auto& network) {
    std::filesystem::create_directories(root / part);
    Tensors tensors, out;
    list_weights(tensors, "", network, Dtype::f32);
    for (const TensorToWrite& t : tensors) out.push_back(stored(t.name, t.shape, floats_of(t), dtype));
    write_safetensors(root / part / (std::string(stem) + ".safetensors"), out);
  };
  write("unet", "diffusion_pytorch_model", weights.unet);
  write("vae", "diffusion_pytorch_model", weights.vae);
  write("text_encoder", "model", weights.text_encoder);
}

}  // namespace

TEST_CASE("a one-file checkpoint is the same weights as the folder, in every storage and grammar", "[pipeline]") {
  const TemporaryFolder folder;
  const RandomModel<toy> random;
  const auto file = folder / "model.safetensors";
  std::vector<float> exact;
  for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::f8_e4m3, Dtype::f8_e5m2}) {
    INFO(std::string(name_of(dtype)));
    write_folder(folder / "folder", random.weights, dtype);
    const std::vector<float> expected = read_all(ModelSource<toy>(folder / "folder"));
    if (dtype == Dtype::f32) exact = expected;
    CHECK((dtype == Dtype::f32 || expected != exact));
    write_safetensors(file, checkpoint(random.weights, {}, dtype));
    CHECK((read_all(ModelSource<toy>(file)) == expected));
    write_safetensors(file, checkpoint(random.weights, {.text = Text::open_clip}, dtype));
    CHECK((read_all(ModelSource<toy>(file)) == expected));
  }
  // Merges that lack text_model, blocks numbered with holes, an autoencoder under another prefix, with projections of any shape.
  Tensors tensors = checkpoint(random.weights, {.text = Text::clip_without_prefix, .entries = 3});
  std::size_t squeezed = 0, renamed = 0;
  for (TensorToWrite& t : tensors) {
    if (t.name.find("proj_in.weight") != std::string::npos || t.name.find("mid.attn_1.q.weight") != std::string::npos) {
      t.shape.resize(t.name.starts_with("model.") ? 2 : 3);
      ++squeezed;
    }
    if (constexpr std::string_view front = "first_stage_model."; t.name.starts_with(front)) {
      t.name.replace(0, front.size(), "vae.");
      if (t.name.ends_with("post_quant_conv.bias")) t.name = "vae.decoder.post_quant_conv.bias";
      ++renamed;
    }
  }
  CHECK(squeezed == 6);
  CHECK(renamed > 20);
  CHECK(std::any_of(tensors.begin(), tensors.end(),
                    [](const auto& t) { return t.name.find("output_blocks.2.1.conv") != t.name.npos; }));
  write_safetensors(file, tensors);
  CHECK((read_all(ModelSource<toy>(file)) == exact));
}

TEST_CASE("the vocabulary of a one-file checkpoint lies beside it, or where the caller says", "[pipeline]") {
  const TemporaryFolder folder;
  const RandomModel<toy> random;
  const auto file = folder / "model.safetensors";
  write_safetensors(file, checkpoint(random.weights));
  const auto ids = [&](const std::filesystem::path& vocabulary = {}) {
    return ModelSource<toy>(ModelPaths{.model = file, .vocabulary = vocabulary}).tokenizer().encode("a cat", 7);
  };
  expect(error_of([&] { ids(); }), "model.safetensors\": a one-file checkpoint holds no vocabulary, and none is in");
  const auto write_files = [&](const std::string& where) {
    std::filesystem::create_directories(folder / where);
    write_file(folder / where / "vocab.json", clip_files::vocab());
    write_file(folder / where / "merges.txt", clip_files::merges());
    write_file(folder / where / "special_tokens_map.json", R"({"pad_token": "a"})");
  };
  write_files("elsewhere/tokenizer");
  expect(error_of([&] { ids(); }), "none is in");
  // Filled up by the end token, as CLIP is, whatever the folder of another model says.
  const std::vector<std::int32_t> expected{27, 11, 24, 28, 28, 28, 28};
  CHECK(ids(folder / "elsewhere") == expected);
  CHECK(ids(folder / "elsewhere/tokenizer") == expected);
  write_files("tokenizer");
  CHECK(ids() == expected);
  std::filesystem::remove_all(folder / "tokenizer");
  write_file(folder / "tokenizer.json", clip_files::tokenizer_json());
  CHECK(ids() == expected);
  // OpenCLIP fills up with 0, which is "!".
  write_safetensors(file, checkpoint(random.weights, {.text = Text::open_clip}));
  CHECK(ids() == std::vector<std::int32_t>{27, 11, 24, 28, 0, 0, 0});
  expect(error_of([&] { ids(folder / "nowhere"); }), "nowhere\": expected CLIP's merges.txt");
}

TEST_CASE("another autoencoder takes the place of the model's own, by any of its names", "[pipeline]") {
  const TemporaryFolder folder;
  const RandomModel<toy> random, other(2);
  const auto file = folder / "model.safetensors";
  write_safetensors(file, checkpoint(random.weights));
  Tensors vae;
  list_weights(vae, "", other.weights.vae, Dtype::f32);
  std::filesystem::create_directories(folder / "whole/vae");
  std::filesystem::create_directories(folder / "alone");
  for (const char* at : {"whole/vae", "alone"}) write_safetensors(folder / at / "diffusion_pytorch_model.safetensors", vae);
  write_safetensors(folder / "vae.safetensors", vae);
  Tensors ldm = checkpoint(other.weights);
  write_safetensors(folder / "other.safetensors", ldm);
  std::erase_if(ldm, [](const auto& t) { return !t.name.starts_with("first_stage_model."); });
  for (auto& t : ldm) t.name.erase(0, std::string_view("first_stage_model.").size());
  write_safetensors(folder / "ldm_vae.safetensors", ldm);
  other.write(folder / "own_other.safetensors", Dtype::f32);
  for (auto* tensors : {&vae, &ldm})  // as some tools export it
    for (auto& t : *tensors) t.name.insert(0, "vae.");
  write_safetensors(folder / "named.safetensors", vae);
  write_safetensors(folder / "named_ldm.safetensors", ldm);
  for (const char* at : {"named.safetensors", "named_ldm.safetensors"})
    CHECK(identify(folder / at).contents == ModelKind::Contents::vae);

  RandomModel<toy> mixed;
  const auto to = reflect::leafs(mixed.weights.vae), from = reflect::leafs(other.weights.vae);
  for (std::size_t i = 0; i < to.size(); ++i) std::copy_n(from[i].data(), from[i].type->storage, to[i].data());
  write_safetensors(folder / "mixed.safetensors", checkpoint(mixed.weights));
  const auto expected = read_all(ModelSource<toy>(folder / "mixed.safetensors"));
  for (const char* from_here : {"whole", "alone", "vae.safetensors", "other.safetensors", "ldm_vae.safetensors",
                                "named.safetensors", "named_ldm.safetensors", "own_other.safetensors"}) {
    CAPTURE(from_here);
    CHECK((read_all(ModelSource<toy>(ModelPaths{.model = file, .vae = folder / from_here})) == expected));
  }
  // Of a model without one, and of a model of this library.
  Tensors rest = checkpoint(random.weights);
  std::erase_if(rest, [](const auto& t) { return t.name.starts_with("first_stage_model."); });
  write_safetensors(folder / "rest.safetensors", rest);
  CHECK((read_all(ModelSource<toy>(ModelPaths{.model = folder / "rest.safetensors", .vae = folder / "alone"})) == expected));
  random.write(folder / "own.safetensors", Dtype::f32);
  CHECK((read_all(ModelSource<toy>(ModelPaths{.model = folder / "own.safetensors", .vae = folder / "alone"})) == expected));

  const auto refusal = [&](const char* from_here) {
    return error_of([&] { ModelSource<toy> source(ModelPaths{.model = file, .vae = folder / from_here}); });
  };
  const std::string last = vae.back().name;
  vae.pop_back();
  write_safetensors(folder / "named.safetensors", vae);
  expect(refusal("named.safetensors"), "named.safetensors\": tensor \"" + last + "\"");
  for (auto& t : vae) t.name.erase(0, 4);
  write_safetensors(folder / "vae.safetensors", vae);
  expect(refusal("vae.safetensors"), "vae.safetensors\": tensor \"" + last.substr(4) + "\"");
  expect(refusal("rest.safetensors"), "expected an autoencoder, found none");
  expect(refusal("nowhere"), "nowhere\": cannot open");
  write_file(folder / "alone/config.json", R"({"_class_name": "AutoencoderTiny"})");
  expect(refusal("alone"), "_class_name: expected");
}

TEST_CASE("TAESD's own numbers are those of a sequence, whose decoder begins with a layer that has no weights", "[pipeline]") {
  for (const auto& [own, theirs] : {std::pair("encoder.0.weight", "encoder.layers.0.weight"),
                                    {"encoder.13.conv.4.bias", "encoder.layers.13.conv.4.bias"},
                                    {"decoder.1.weight", "decoder.layers.0.weight"},
                                    {"decoder.19.bias", "decoder.layers.18.bias"}}) {
    const std::array<std::string_view, 2> names{own, theirs};
    const detail::LdmNames translation = detail::ldm_vae_names(std::span(names).first(1));
    CHECK(translation.to_diffusers(own) == theirs);
    CHECK(translation.to_ldm(theirs) == own);
    CHECK(detail::ldm_vae_names(std::span(names).last(1)).to_diffusers(theirs) == theirs);
  }
  for (const std::string_view none : {"decoder.0.weight", "decoder.conv_in.weight", "decoder.conv_norm_out.weight",
                                      "quant_conv.bias", "encoder.", "encoder.3", "decoder.-1.x"}) {
    const detail::LdmNames translation = detail::ldm_vae_names(std::span(&none, 1));
    CHECK(translation.to_diffusers(none) == none);
    CHECK(translation.to_ldm(none) == none);
  }
}

TEST_CASE("a one-file checkpoint that is not the model is refused by the file's own names", "[pipeline]") {
  const TemporaryFolder folder;
  const RandomModel<toy> random;
  const auto refusal = [&](const Edit& edit, Layout layout = {}) {
    Tensors tensors = checkpoint(random.weights, layout);
    edit(tensors);
    write_safetensors(folder / "model.safetensors", tensors);
    return error_of([&] { read_all(ModelSource<toy>(folder / "model.safetensors")); });
  };
  const auto without = [](std::string_view name) {
    return [=](Tensors& t) { CHECK(std::erase_if(t, [&](const auto& x) { return x.name.starts_with(name); }) > 0); };
  };
  const auto with = [](const char* name, std::vector<std::size_t> shape = {1}) {
    return [=](Tensors& t) { t.push_back({.name = name, .dtype = Dtype::f16, .shape = shape, .fill = [](auto) {}}); };
  };
  CHECK(refusal([](auto&) {}).empty());
  const std::string bias = "model.diffusion_model.input_blocks.0.0.bias",
                    norm = "first_stage_model.decoder.up.1.block.0.norm1.bias",
                    fc1 = "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.bias",
                    thirds = "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight";
  for (const std::string& name : {bias, norm, fc1}) {
    expect(refusal(without(name)), "tensor \"" + name + "\": missing, expected shape [");
    expect(refusal([&](Tensors& t) { tensor(t, name).shape.insert(tensor(t, name).shape.begin(), 1); }),
           "tensor \"" + name + "\": expected shape [");
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
      expect(refusal([&](Tensors& t) { put_last_float(tensor(t, name), value); }),
             "tensor \"" + name + "\": expected finite numbers, found NaN or infinity");
    expect(refusal([&](Tensors& t) {
             TensorToWrite& b = tensor(t, name);
             b = {.name = b.name, .dtype = Dtype::i32, .shape = b.shape, .fill = [](auto) {}};
           }),
           "tensor \"" + name + "\": expected dtype F32, F16, BF16, F8_E4M3 or F8_E5M2, found I32");
  }
  const Layout open_clip{.text = Text::open_clip};
  expect(refusal(without(thirds), open_clip), "tensor \"" + thirds + "\": missing, expected shape [16, 16]");
  expect(refusal([&](Tensors& t) { std::swap(tensor(t, thirds).shape[0], tensor(t, thirds).shape[1]); }, open_clip),
         "tensor \"" + thirds + "\": expected shape [16, 16], found [16, 48]");
  expect(refusal([&](Tensors& t) { put_last_float(tensor(t, thirds), -std::numeric_limits<float>::infinity()); }, open_clip),
         "tensor \"" + thirds + "\": expected finite numbers");
  // The layer after the next.
  expect(refusal(with("cond_stage_model.model.transformer.resblocks.3.ln_1.bias"), open_clip), "unknown to the model");

  expect(refusal(with("model.diffusion_model.input_blocks.9.0.extra")),
         "tensor \"model.diffusion_model.input_blocks.9.0.extra\": unknown to the model");
  expect(refusal(with("first_stage_model.extra")), "tensor \"first_stage_model.extra\": unknown to the model");
  expect(refusal(with("cond_stage_model.transformer.extra")),
         "tensor \"cond_stage_model.transformer.extra\": unknown to the model");
  expect(refusal(with("extra")), "tensor \"extra\": belongs to no network of the model");
  expect(refusal(with("model.diffusion_model.time_embed.cond_proj.weight", {32, 256})),
         "tensor \"model.diffusion_model.time_embed.cond_proj.weight\": unknown to the model");
  expect(refusal(with("first_stage_model.encoder.quant_conv.bias", {8})),
         "tensors \"first_stage_model.encoder.quant_conv.bias\" and \"first_stage_model.quant_conv.bias\": both are "
         "\"quant_conv.bias\"");
  expect(refusal(with("conditioner.embedders.1.model.ln_final.bias")), "found a second, of Stable Diffusion XL");
  expect(refusal(with("v_pred")),
         "expected a UNet that puts out epsilon (the configuration's `sampler.prediction`), found one that puts out v: it holds "
         "the tensor \"v_pred\"");
  for (const char* says : {"v", "epsilon", "something"}) {
    write_safetensors(folder / "model.safetensors", checkpoint(random.weights), {{"modelspec.prediction_type", says}});
    const std::string error = error_of([&] { ModelSource<toy>{folder / "model.safetensors"}; });
    if (*says == 'v') expect(error, "found one that puts out v: its metadata say so (modelspec.prediction_type)");
    else CHECK(error.empty());
  }
  expect(refusal(with("ztsnr")), "tensor \"ztsnr\": says that the noise schedule ends in noise alone");
  expect(refusal(without("first_stage_model.")),
         "found none that is an autoencoder, but a one-file checkpoint of the LDM layout");
  expect(refusal(without("cond_stage_model.")), "found none that is a text encoder");
  expect(refusal(without("model.")), "found none that is a UNet");
}

}  // namespace test_ldm_checkpoint_cpp
