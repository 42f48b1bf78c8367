// SPDX-License-Identifier: Apache-2.0
// Pictures from words by the open Stable Diffusion family, from the files that people have.
//
//   text_to_image --model model.safetensors "a lighthouse at dusk" --steps 20 --cfg-scale 7
//
// The file says which model it is; each is a type, and this program has those that its build selected (MOBILEDIFFUSION_PRESETS).
// Names of options are those of stable-diffusion.cpp, where it has the same.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "common/arguments.hpp"
#include "common/read_picture.hpp"
#include "common/write_picture.hpp"
#include "mobilediffusion/io/clip_folder.hpp"
#include "mobilediffusion/model_kind.hpp"
#include "text_to_image/drawing.hpp"

namespace fs = std::filesystem;
namespace md = mobilediffusion;
using md::detail::join;
using md::detail::printable;
using text_to_image::Compiled;
using text_to_image::Options;

namespace {

// "a cat <lora:fluffy:0.8>": adapters that a prompt names, as AUTOMATIC1111's program has them; they are taken out of it.
void take_loras(Options& o, const std::string& folder) {
  std::string& prompt = o.request.prompt;
  for (std::size_t begin = prompt.find("<lora:"); begin != prompt.npos; begin = prompt.find("<lora:", begin)) {
    const std::size_t end = prompt.find('>', begin);
    if (end == prompt.npos) throw md::Error("prompt: expected > after " + printable(prompt.substr(begin)));
    const std::string whole = prompt.substr(begin, end + 1 - begin);
    std::string name = whole.substr(6, whole.size() - 7);
    float scale = 1.0f;
    if (const std::size_t colon = name.rfind(':'); colon != name.npos) {
      if (!md::detail::parse_number(std::string_view(name).substr(colon + 1), scale) || !std::isfinite(scale))
        throw md::Error("prompt: expected <lora:NAME:WEIGHT>, found " + printable(whole));
      name.resize(colon);
    }
    if (name.empty() || name.find_first_of("/\\") != name.npos)
      throw md::Error("prompt: expected <lora:NAME:WEIGHT>, found " + printable(whole));
    if (folder.empty()) throw md::Error(join({"prompt: ", printable(whole), ": expected its folder, --lora-model-dir"}));
    o.loras.push_back({fs::path(folder) / (name + ".safetensors"), scale});
    prompt.erase(begin, end + 1 - begin);
  }
}

// As that program has it, too: of the files of a folder those whose names stand in a prompt.
void take_embeddings(Options& o, const std::string& folder) {
  const auto lower = [](std::string text) {
    for (char& c : text)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return text;
  };
  const std::string prompts = lower(o.request.prompt + "\n" + o.request.negative);
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (const fs::path& path = at->path(); path.extension() == ".safetensors")
      if (const std::string name = path.stem().string(); prompts.find(lower(name)) != prompts.npos)
        o.embeddings.push_back({path, name});
  if (error) throw md::Error(join({"folder ", printable(folder), ": cannot read: ", error.message()}));
  std::sort(o.embeddings.begin(), o.embeddings.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += join({text.empty() ? "" : " or ", name});
  return text;
}

// Which of the compiled models is meant. preset: what the user says it is; else the file tells.
const Compiled& choose(const std::vector<Compiled>& models, const Options& o, const std::string& preset, std::size_t width,
                       std::size_t height) {
  std::vector<std::string> fitting;
  std::optional<md::Prediction> prediction;
  if (!preset.empty()) {
    fitting = {preset};
  } else {
    const md::ModelKind kind = md::identify(o.paths.model);
    if (!o.quiet) std::fprintf(stderr, "%s: %s\n", o.paths.model.string().c_str(), kind.text().c_str());
    fitting = kind.presets;
    prediction = kind.prediction;
    if (fitting.empty())
      throw md::Error(join({"file ", printable(o.paths.model.string()),
                            ": expected a model of the Stable Diffusion family, found ", kind.text()}));
  }
  const bool tiny = !o.paths.vae.empty() && md::is_tiny_vae(md::open_vae(o.paths.vae));
  std::string found;
  for (const std::string& name : fitting) {
    const auto first = std::find_if(models.begin(), models.end(), [&](const Compiled& m) { return m.preset == name; });
    for (const Compiled& m : models) {
      if (m.preset != name || m.vae != (tiny ? md::VaeKind::autoencoder_tiny : first->vae)) continue;
      if (prediction && m.prediction != *prediction) continue;
      if ((width == 0 || m.width == width) && (height == 0 || m.height == height)) {
        if (fitting.size() > 1 && !o.quiet)
          std::fprintf(stderr, "drawn as %s; --preset says otherwise: its tensors could be those of %s\n", name.c_str(),
                       listed(fitting).c_str());
        return m;
      }
      found += join({found.empty() ? "" : ", ", m.width, "x", m.height});
    }
  }
  if (found.empty())
    throw md::Error(join({"model: this program was built without ", listed(fitting),
                          "; build it again with -D MOBILEDIFFUSION_PRESETS=", fitting[0]}));
  throw md::Error(join({"size: expected one of ", found, ", found ", width, "x", height,
                        "; build it again with -D MOBILEDIFFUSION_SIZES=", width, "x", height}));
}

md::Sampler sampler_of(const std::string& name, const std::string& scheduler) {
  md::Sampler sampler = *md::sampler_named(name);
  if (scheduler == "karras") md::set_karras(sampler, true);
  if (scheduler == "leading") md::set_spacing(sampler, md::Spacing::leading);
  if (scheduler == "trailing") md::set_spacing(sampler, md::Spacing::trailing);
  if (scheduler == "linspace") md::set_spacing(sampler, md::Spacing::linspace);
  return sampler;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  std::string model, vae, vocabulary, lora_folder, embedding_folder, preset, method, scheduler;
  std::vector<std::string> loras, embeddings;
  std::size_t width = 0, height = 0;
  const std::vector<Compiled> models = text_to_image::compiled_models();
  std::vector<std::string> presets, samplers;
  for (const Compiled& m : models)
    if (std::find(presets.begin(), presets.end(), m.preset) == presets.end()) presets.push_back(m.preset);
  md::for_each_sampler([&]<class S>() { samplers.emplace_back(S::name); });

  CLI::App app{"Pictures from words, by models of the Stable Diffusion family", "text_to_image"};
  app.set_version_flag("--version", "text_to_image " MOBILEDIFFUSION_VERSION);
  app.add_option("-p,--prompt,prompt", o.request.prompt,
                 "What to draw; (words:1.3) count more, [words] less; <lora:NAME:WEIGHT> adds an adapter of --lora-model-dir")
      ->required()
      ->type_name("TEXT");
  app.add_option("-n,--negative-prompt", o.request.negative, "What guidance leads away from")->type_name("TEXT");
  app.add_flag_callback(
      "--plain-prompt", [&] { o.request.words.weights = false; }, "Brackets in prompts are plain text, as in diffusers");
  examples::add_whole(app, "--clip-skip", 1, 100,
                      "1 reads the text encoder's last layer, 2 the one before; default: as the model was trained",
                      [&](auto n) { o.clip_skip = static_cast<std::size_t>(n); });
  app.add_option("-m,--model", model, "One-file checkpoint, or a folder of the diffusers layout")->required()->type_name("PATH");
  app.add_option("--vae", vae, "Another autoencoder, or a tiny one (TAESD): a file or folder")->type_name("PATH");
  app.add_option("--vocabulary", vocabulary, "A folder with another tokenizer than CLIP's")->type_name("FOLDER");
  app.add_option("--preset", preset, "Which model it is, where its file does not tell")->check(CLI::IsMember(presets));
  app.add_option("--lora-model-dir", lora_folder, "Where the adapters are that a prompt names")->type_name("FOLDER");
  app.add_option("--lora", loras, "An adapter, by its file; FILE:WEIGHT")->type_name("FILE")->allow_extra_args(false);
  app.add_option("--embd-dir", embedding_folder, "Where textual inversions are; a prompt names them by their files")
      ->type_name("FOLDER");
  app.add_option("--embedding", embeddings, "A textual inversion, by its file; a prompt names it by its own word")
      ->type_name("FILE")
      ->allow_extra_args(false);
  app.add_option("-i,--init-img", o.init_image, "A picture to begin with, PNG or JPEG")->type_name("FILE");
  app.add_option("--mask", o.mask, "White where that picture is to be painted anew")->type_name("FILE");
  examples::add_strength(app, "With --init-img: above 0, at most 1: how much may change; default 0.75, with --mask 1",
                         [&](float x) { o.strength = x; });
  examples::add_fit(app, o.fit);
  app.add_option("-o,--output", o.output, "PNG; - is standard output; default output.png")->type_name("FILE");
  examples::add_whole(app, "-s,--seed", 0, UINT64_MAX, "Of the first picture; default 42", [&](auto n) { o.request.seed = n; });
  examples::add_whole(app, "--steps", 1, 1000, "Default: the model's",
                      [&](auto n) { o.request.steps = static_cast<std::size_t>(n); });
  examples::add_number(app, "--cfg-scale", "Guidance; at most 1: none; default: the model's",
                       [&](float x) { o.request.guidance = x; });
  app.add_option("--sampling-method", method, "Default: what the model's folder says")->check(CLI::IsMember(samplers));
  app.add_option("--scheduler", scheduler, "Of the sampling method: which times it visits")
      ->check(CLI::IsMember({"discrete", "karras", "leading", "trailing", "linspace"}));
  app.add_option_function<std::string>(
         "--rng",
         [&](const std::string& name) { o.request.noise = name == "cpu" ? md::NoiseKind::torch : md::NoiseKind::counted; },
         "Noise of a seed: own, or as PyTorch gives it (cpu: the pictures of diffusers); default cpu")
      ->check(CLI::IsMember({"own", "cpu"}));
  examples::add_whole(app, "-W,--width", 1, 65536, "Default: the model's", [&](auto n) { width = static_cast<std::size_t>(n); });
  examples::add_whole(app, "-H,--height", 1, 65536, "Default: the model's",
                      [&](auto n) { height = static_cast<std::size_t>(n); });
  examples::add_whole(app, "-b,--batch-count", 1, 10000, "Pictures, with the seeds that follow; default 1",
                      [&](auto n) { o.count = static_cast<std::size_t>(n); });
  examples::add_whole(app, "--batch", 1, 64, "Of them at once; default 1: more take more memory",
                      [&](auto n) { o.batch = static_cast<std::size_t>(n); });
  app.add_option_function<std::string>(
         "--type",
         [&](const std::string& name) {
           o.format = name == "int8" || name == "q8_0" ? md::Format::int8 : name == "bf16" ? md::Format::bf16 : md::Format::fp32;
         },
         "What weights are kept and multiplied in: fp32 (f32), bf16, int8 (q8_0); default fp32")
      ->check(CLI::IsMember({"fp32", "f32", "bf16", "int8", "q8_0"}));
  examples::add_whole(app, "-t,--threads", 0, 1024, "Default 0: all", [&](auto n) { o.threads = static_cast<int>(n); });
  app.add_flag("-q,--quiet", o.quiet, "Print nothing but errors");
  o.request.seed = 42;
  o.request.words.weights = true;
  o.request.noise = md::NoiseKind::torch;
  app.callback([&] {
    if (!o.mask.empty() && o.init_image.empty()) throw CLI::ValidationError("--mask", "expected --init-img as well");
    if (!scheduler.empty() && method.empty()) throw CLI::ValidationError("--scheduler", "expected --sampling-method as well");
    if (!o.mask.empty() && app.count("--strength") == 0) o.strength = 1.0f;
  });
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  try {
    o.paths = {model, vae, vocabulary};
    const fs::path near = o.paths.model.parent_path();
    if (vocabulary.empty() && !md::holds_clip_tokenizer(near) && !md::holds_clip_tokenizer(near / "tokenizer"))
      o.paths.vocabulary = MOBILEDIFFUSION_DEMO_FOLDER "/clip";
    for (const std::string& text : loras) {
      md::LoraFile lora{text};
      const std::size_t colon = text.rfind(':');
      if (colon != text.npos && colon > 1 && md::detail::parse_number(std::string_view(text).substr(colon + 1), lora.scale))
        lora.path = text.substr(0, colon);
      o.loras.push_back(lora);
    }
    take_loras(o, lora_folder);
    for (const std::string& text : embeddings) o.embeddings.push_back({text});
    if (!embedding_folder.empty()) take_embeddings(o, embedding_folder);
    if (!method.empty()) o.request.sampler = sampler_of(method, scheduler);
    examples::check_output(o.output);
    // Before the model is read: a long run should not fail at its last line.
    if (const fs::path folder = fs::path(o.output).parent_path();
        !examples::is_stream(o.output) && !folder.empty() && !fs::is_directory(folder))
      throw md::Error(
          join({"output ", printable(o.output), ": expected an existing folder ", printable(folder.string()), ", found none"}));
    choose(models, o, preset, width, height).draw(o);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "text_to_image: expected enough memory, found too little\n");
    return 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "text_to_image: %s\n", e.what());
    return 1;
  }
  return 0;
}
