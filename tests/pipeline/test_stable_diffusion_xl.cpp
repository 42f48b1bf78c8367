// SPDX-License-Identifier: Apache-2.0
// Two text encoders: a Stable Diffusion XL in small, from a folder that diffusers saved, against what its pipeline draws
// (tests/twin/sdxl.py), and from a file of the LDM layout.
#include <nlohmann/json.hpp>

#include "../golden/golden.hpp"
#include "../io/temporary_folder.hpp"
#include "catch.hpp"
#include "ldm_files.hpp"
#include "mobilediffusion/session.hpp"

namespace test_stable_diffusion_xl_cpp {

using namespace mobilediffusion;
using ldm_files::Tensors;

namespace {

constexpr TransformerConfig two{.depth = 2};
constexpr ModelConfig toy{
    .text = {.vocabulary = 29, .length = 7, .width = 16, .layers = 2, .heads = 2, .penultimate = true},
    .text_2 = {.vocabulary = 29,
               .length = 7,
               .width = 24,
               .layers = 3,
               .heads = 3,
               .activation = Activation::gelu,
               .penultimate = true,
               .projection = 12},
    .unet = {.height = 4,
             .width = 8,
             .levels = 2,
             .stages = {StageConfig{.channels = 8},
                        StageConfig{.channels = 16, .down_transformers = {two}, .up_transformers = {two, two}}},
             .middle = {.transformer = two},
             .attention = {.head_dim = 8, .shared_kv = false, .linear_projections = true},
             .feed_forward = {.ratio = 8, .activation = Activation::gelu},
             .context_length = 3 * 7,
             .context_width = 16 + 24,
             .pooled_width = 12 + picture_sizes * size_sinusoids,
             .groups = 4},
    .vae = {.height = 8,
            .width = 16,
            .levels = 2,
            .encoder_channels = {8, 16},
            .decoder_channels = {8, 16},
            .encoder_resnets = 1,
            .decoder_resnets = 2,
            .groups = 4,
            .scaling_millionths = 130'250},
    .sampler = {.prediction = Prediction::epsilon, .steps = 3, .guidance_percent = 500}};
using Toy = Session<toy>;
using Weights = ModelWeights<toy>;

// The folder that diffusers saved, and what its pipeline drew.
struct SavedFolder : TemporaryFolder {
  SavedFolder() {
    const auto files = nlohmann::json::parse(golden.metadata().at("files"));
    for (const auto& [name, text] : files.items()) {
      if (name == "turbo") continue;
      std::filesystem::create_directories((root() / name).parent_path());
      write_file(root() / name, text.get<std::string>());
    }
    turbo = files["turbo"].get<std::string>();
    for (const auto& [part, stem] : {std::pair{"unet", "diffusion_pytorch_model"},
                                     {"vae", "diffusion_pytorch_model"},
                                     {"text_encoder", "model"},
                                     {"text_encoder_2", "model"}}) {
      Tensors tensors;
      const std::string prefix = std::string(part) + '/';
      for (const TensorView& t : golden.tensors())
        if (t.name.starts_with(prefix))
          tensors.push_back(
              {.name = t.name.substr(prefix.size()),
               .dtype = t.dtype,
               .shape = t.shape,
               .fill = [bytes = golden.read_bytes(t)](auto out) { std::copy(bytes.begin(), bytes.end(), out.begin()); }});
      write_safetensors(root() / part / (std::string(stem) + ".fp16.safetensors"), tensors);
    }
  }
  std::filesystem::path root() const { return *this / "model"; }
  std::vector<float> read(const std::string& name) const {
    const TensorView* const t = golden.find(name);
    REQUIRE(t != nullptr);
    std::vector<float> values(t->count());
    golden.read_floats(*t, values.data());
    return values;
  }
  void replace(const char* name, std::string_view from, std::string_view to) const {
    std::string text = read_file(root() / name, 1 << 20);
    const std::size_t at = text.find(from);
    REQUIRE(at != text.npos);
    write_file(root() / name, text.replace(at, from.size(), to));
  }

  SafetensorsFile golden{std::filesystem::path(MOBILEDIFFUSION_TEST_DATA) / "sdxl.safetensors"};
  std::string turbo;
};

// Peak signal-to-noise ratio.
double decibels(double squares, std::size_t n, double peak) {
  return 10.0 * std::log10(peak * peak * static_cast<double>(n) / std::max(squares, 1e-30));
}

// All that a source gives, in the order of memory.
std::vector<float> read_all(const std::filesystem::path& path) {
  std::vector<float> memory(reflect::storage_floats<Weights>());
  Weights weights{};
  reflect::bind(weights, memory.data());
  ModelSource<toy>(path).read(weights, [](const reflect::LeafView& leaf, std::span<const float> values) {
    std::copy(values.begin(), values.end(), leaf.data());
  });
  return memory;
}

}  // namespace

TEST_CASE("golden: a folder of Stable Diffusion XL draws what diffusers' pipeline draws", "[sdxl]") {
  const SavedFolder folder;
  const auto check = [&](const std::string& name, Request request) {
    INFO(name);
    request.latents = folder.read("noise");
    const std::vector<float> latents = folder.read(name + "/latents"), picture = folder.read(name + "/picture");
    Toy session(Model<toy>(folder.root()), {.threads = 1});
    const std::vector<float> z = session.generate_latents(request);
    REQUIRE(z.size() == latents.size());
    double squares = 0.0, peak = 0.0;
    for (std::size_t i = 0; i < z.size(); ++i) {
      squares += std::pow(double{z[i]} - double{latents[i]}, 2);
      peak = std::max(peak, double{std::abs(latents[i])});
    }
    CHECK(decibels(squares, z.size(), peak) > 90.0);
    const Image image = session.generate(request);
    REQUIRE(image.rgb.size() == picture.size());
    squares = 0.0;
    for (std::size_t i = 0; i < picture.size(); ++i)
      squares += std::pow(static_cast<double>(image.rgb[i]) - std::round(255.0 * double{picture[i]}), 2);
    CHECK(decibels(squares, picture.size(), 255.0) > 60.0);
    CHECK(session.peak_activation_bytes() <= Toy::activation_bytes);
    return z;
  };
  // Without a negative prompt guidance leads away from zeros, unless model_index.json says otherwise.
  const auto empty = check("empty", {.prompt = "a cat"});
  CHECK(check("negative", {.prompt = "a cat", .negative = "red"}) != empty);
  folder.replace("model_index.json", R"("force_zeros_for_empty_prompt": true)", R"("force_zeros_for_empty_prompt": false)");
  CHECK(check("empty_encoded", {.prompt = "a cat"}) != empty);
  check("negative", {.prompt = "a cat", .negative = "red"});
  folder.replace("model_index.json", R"("force_zeros_for_empty_prompt": false)", R"("force_zeros_for_empty_prompt": 1)");
  expect(error_of([&] { Model<toy>{folder.root()}; }),
         "model_index.json\": force_zeros_for_empty_prompt: expected true or false, found 1");
  std::filesystem::remove(folder.root() / "model_index.json");
  check("empty", {.prompt = "a cat"});
  write_file(folder.root() / "scheduler/scheduler_config.json", folder.turbo);
  check("turbo", {.prompt = "a cat", .steps = 1, .guidance = 0.0f});
}

TEST_CASE("with two text encoders a batch gives the pictures that its requests give alone, on any threads", "[sdxl]") {
  const SavedFolder folder;
  const Model<toy> model(folder.root());
  CHECK(model.memory_bytes() == Model<toy>::weight_bytes);
  std::vector<Request> requests{{.prompt = "a cat", .seed = 1},
                                {.prompt = "a red cat", .negative = "red", .seed = 2},
                                {.prompt = "", .seed = 3},
                                {.prompt = "a (red:1.5) cat", .seed = 2, .words = {.weights = true}},
                                {.prompt = "a red cat a red cat a cat", .seed = 4},  // of two chunks
                                {.prompt = "a red cat a red cat a red", .seed = 4}};
  Toy alone(model, {.threads = 1});
  std::vector<Image> expected;
  for (const Request& r : requests) expected.push_back(alone.generate(r));
  CHECK(alone.generate({.prompt = "a red cat", .seed = 2}) != expected[3]);
  CHECK(expected[4] != expected[5]);
  expect(error_of([&] { alone.generate({.prompt = "a", .words = {.clip_skip = 1}}); }), "clip_skip: expected 0 to 0, found 1");
  for (const int threads : {1, 2}) {
    Toy session(model, {.threads = threads, .batch = 3});
    CHECK(session.generate(requests) == expected);
    CHECK(session.peak_activation_bytes() <= Toy::activation_bytes_for(3));
  }
}

TEST_CASE("adapters reach both text encoders", "[sdxl]") {
  const SavedFolder folder;
  const auto latents = [&](const std::string& part, std::size_t width) {
    const auto path = folder / "adapter.safetensors";
    const std::string front = part + "_text_model_encoder_layers_0_self_attn_v_proj.lora_";
    const std::vector<float> ones(width, 0.3f);
    if (width > 0)
      write_safetensors(path, Tensors{{.name = front + "down.weight", .shape = {1, width}, .floats = ones},
                                      {.name = front + "up.weight", .shape = {width, 1}, .floats = ones}});
    const std::vector<LoraFile> files(width > 0 ? 1 : 0, LoraFile{path});
    return Toy(Model<toy>(folder.root(), files), {.threads = 1}).generate_latents({.prompt = "a cat", .seed = 1, .steps = 1});
  };
  const auto plain = latents("", 0), first = latents("lora_te1", 16), second = latents("lora_te2", 24);
  CHECK(first != plain);
  CHECK(second != plain);
  CHECK(second != first);
  expect(error_of([&] { latents("lora_te2", 16); }), "adapter.safetensors\": tensor");
}

TEST_CASE("vectors of textual inversion are of one text encoder", "[sdxl]") {
  const SavedFolder folder;
  expect(error_of([&] { Model<toy>({folder.root()}, {}, {{folder / "cat.safetensors"}}); }),
         "cat.safetensors\": expected no textual inversion for a model of two text encoders");
}

TEST_CASE("a folder's second text encoder is checked as the first is", "[sdxl]") {
  const SavedFolder folder;
  const auto refusal = [&] { return error_of([&] { Model<toy>{folder.root()}; }); };
  CHECK(refusal().empty());
  folder.replace("text_encoder_2/config.json", R"("hidden_act": "gelu")", R"("hidden_act": "quick_gelu")");
  expect(refusal(), "text_encoder_2/config.json\": hidden_act: expected \"gelu\", found \"quick_gelu\"");
  folder.replace("text_encoder_2/config.json", R"("hidden_act": "quick_gelu")", R"("hidden_act": "gelu")");
  folder.replace("unet/config.json", R"("addition_time_embed_dim": 256)", R"("addition_time_embed_dim": 128)");
  expect(refusal(), "unet/config.json\": addition_time_embed_dim: expected 256, found 128");
  std::filesystem::remove_all(folder.root() / "text_encoder_2");
  expect(refusal(), "text_encoder_2\": expected model.safetensors or");
}

TEST_CASE("a file of the LDM layout is the same Stable Diffusion XL as its folder", "[sdxl]") {
  const SavedFolder folder;
  const std::vector<float> expected = read_all(folder.root());
  std::vector<float> memory = expected;
  Weights weights{};
  reflect::bind(weights, memory.data());
  const Tensors tensors = ldm_files::checkpoint_of<toy>(weights);
  const auto file = folder / "model.safetensors";
  write_safetensors(file, tensors);
  CHECK((read_all(file) == expected));
  const ModelSource<toy> source(ModelPaths{.model = file, .vocabulary = folder.root()});
  CHECK(source.tokenizer().encode("a cat", 7) == std::vector<std::int32_t>{27, 11, 24, 28, 28, 28, 28});
  CHECK(source.zeros_for_empty_negative());

  const std::string projection = "conditioner.embedders.1.model.text_projection";
  const auto refusal = [&](auto&& edit) {
    Tensors changed = tensors;
    edit(changed);
    write_safetensors(file, changed);
    return error_of([&] { read_all(file); });
  };
  const auto without = [](const std::string& front) {
    return [=](Tensors& t) { CHECK(std::erase_if(t, [&](const auto& x) { return x.name.starts_with(front); }) > 0); };
  };
  expect(refusal(without(projection)), "tensor \"" + projection + "\": missing, expected shape [12, 24]");
  expect(refusal([&](Tensors& t) {
           auto& shape = model_files::tensor(t, projection).shape;
           std::swap(shape[0], shape[1]);
         }),
         "tensor \"" + projection + "\": expected shape [12, 24], found [24, 12]");
  const std::string norm = "conditioner.embedders.1.model.transformer.resblocks.2.ln_1.bias";
  expect(refusal(without(norm)), "tensor \"" + norm + "\": missing, expected shape [24]");
  expect(refusal(without("conditioner.embedders.1.")), "found none that is a second text encoder");
}

TEST_CASE("a second text encoder is a part of what a model's file says", "[sdxl]") {
  const std::string text = configuration_text(toy);
  for (const char* field : {"text_2.layers=3", "text_2.width=24", "text_2.projection=12", "text_2.penultimate=true"})
    CHECK(text.find(field) != text.npos);
  CHECK(configuration_text(presets::sd15).find("text_2") == std::string::npos);
  CHECK(configuration_text(presets::sdxl) == configuration_text(presets::sdxl_turbo));
}

}  // namespace test_stable_diffusion_xl_cpp
