// SPDX-License-Identifier: Apache-2.0
// Teaches the demo model a style or a thing from a handful of pictures, as a small file beside the model.
//
//   lora --demo style --pictures FOLDER                        draws a handful to learn from
//   lora --pictures FOLDER --out style.safetensors --sheet before_after.png --prompt "a fox on a red background"
//
// FOLDER has pictures NAME.png or NAME.jpg, each with its caption in NAME.txt; those that are not 128 x 128 are cut and resized.
// The file that comes out holds low-rank adapters of the UNet's layers under PEFT's names; md::TextToImage takes it beside the
// model's file, and --merged writes a whole model with it. The sheet shows each prompt before, with half of it, and with all of
// it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "common/arguments.hpp"
#include "common/known_words.hpp"
#include "common/progress.hpp"
#include "common/read_picture.hpp"
#include "common/write_picture.hpp"
#include "emoji/bitmaps.hpp"
#include "emoji/dataset.hpp"
#include "emoji/drawing.hpp"
#include "mobilediffusion/pipeline.hpp"
#include "mobilediffusion/train/lora_trainer.hpp"

namespace fs = std::filesystem;
namespace md = mobilediffusion;
using emoji::demo;

namespace {

struct Options {
  fs::path pictures, out, model = MOBILEDIFFUSION_DEMO_FOLDER "/emoji_one_step.safetensors", sheet, merged;
  std::string demo_kind, layers = "all";
  std::vector<std::string> prompts;
  md::LoraOptions lora{};
  md::Fit fit = md::Fit::cover;
  std::size_t steps = 500, batch = 8;
  float rate = 2e-3f;
  int threads = 0;
};

// Two inks on paper: what is dark becomes navy, what is light cream.
void print_in_two_colours(std::span<std::uint8_t> rgb) {
  constexpr std::array<float, 3> dark{28, 36, 104}, light{255, 238, 205};
  constexpr float black = 0.25f, white = 0.85f;  // of the greys between which all is printed
  for (std::size_t i = 0; i < rgb.size(); i += 3) {
    const float grey =
        (0.30f * static_cast<float>(rgb[i]) + 0.59f * static_cast<float>(rgb[i + 1]) + 0.11f * static_cast<float>(rgb[i + 2])) /
        255.0f;
    const float paper = std::clamp((grey - black) / (white - black), 0.0f, 1.0f);
    for (std::size_t c = 0; c < 3; ++c) rgb[i + c] = static_cast<std::uint8_t>(dark[c] + paper * (light[c] - dark[c]) + 0.5f);
  }
}

// style: two dozen things that the model knows, two on each background, in two colours. concept: one that it does not know,
// alone, twice and beside others, and a dozen that it knows as they are, lest everything becomes the new one (Ruiz et al., arXiv
// 2208.12242).
void draw_demo(const std::string& kind, const fs::path& folder) {
  md::create_folders(folder);
  const bool style = kind == "style";
  const auto names = emoji::read_names();
  const emoji::Vocabulary vocabulary(emoji::Level::objects, names);
  const std::size_t known = emoji::Vocabulary(emoji::Level::animals_and_foods, names).size();  // the first ones
  const emoji::Bitmaps bitmaps = emoji::load_bitmaps(vocabulary);
  const emoji::Dataset dataset(vocabulary, emoji::visibility_of(bitmaps), 1);
  std::vector<emoji::Sample> samples;
  for (std::size_t k = 0, n = style ? 24 : 12; k < n; ++k) {
    const std::size_t b = k % emoji::backgrounds.size();
    std::size_t i = k * known / n;
    while (!dataset.training_background(i, b)) i = (i + 1) % known;
    samples.push_back(dataset.single(i, b));
  }
  if (!style) {
    const std::size_t rocket = vocabulary.find("rocket");
    for (std::size_t b = 0; b < 8; ++b) samples.push_back(dataset.single(rocket, b));
    for (std::size_t k = 0; k < 4; ++k) {  // where it can stand
      samples.push_back(dataset.count(rocket, 2, k));
      samples.push_back(k % 2 == 0 ? dataset.left_of(rocket, k * known / 4, k) : dataset.left_of(k * known / 4, rocket, k));
    }
  }
  for (const emoji::Sample& s : samples) {
    md::Image image(emoji::picture_size, emoji::picture_size);
    bitmaps.render(s.scene, std::span<std::uint8_t>(image.rgb));
    if (style) print_in_two_colours(image.rgb);
    std::string name = s.caption;
    std::replace(name.begin(), name.end(), ' ', '-');
    md::write_png(folder / (name + ".png"), image);
    md::write_file(folder / (name + ".txt"), s.caption + "\n");
  }
}

// In a model with so few attentions, a style needs the pointwise convolutions as well.
bool is_any_layer(std::string_view path) { return path.starts_with("unet."); }

struct Handful {
  std::vector<float> latents;  // [pictures][latents]
  std::vector<std::int32_t> ids;
  std::vector<std::string> captions;
  std::size_t size = 0;
};

Handful read_handful(const fs::path& folder, md::Fit fit, const md::Tokenizer& tokenizer, emoji::Autoencoder& vae) {
  std::vector<fs::path> paths;
  if (md::is_folder(folder))
    for (const fs::path& path : md::paths_in(folder))
      if (const auto kind = examples::extension_of(path); kind == "png" || kind == "jpg" || kind == "jpeg") paths.push_back(path);
  if (paths.empty()) throw md::Error("pictures: expected a folder of .png or .jpg files, found none in " + folder.string());
  Handful h;
  h.size = paths.size();
  h.latents.resize(h.size * emoji::Autoencoder::latents);
  for (std::size_t i = 0; i < h.size; ++i) {
    const md::Image image = examples::read_picture("lora", paths[i].string(), emoji::picture_size, emoji::picture_size, fit);
    std::vector<float> values(image.rgb.size());
    emoji::to_floats(image, values.data());
    vae.encode(values.data(), 1, &h.latents[i * emoji::Autoencoder::latents]);
    std::string caption = md::read_file(fs::path(paths[i]).replace_extension(".txt"));
    while (!caption.empty() && static_cast<unsigned char>(caption.back()) <= ' ') caption.pop_back();
    h.captions.push_back(caption);
    const auto ids = tokenizer.encode(caption, demo.text.length);
    h.ids.insert(h.ids.end(), ids.begin(), ids.end());
  }
  return h;
}

void train(const Options& o) {
  const md::Executor ex(o.threads, md::Precision::bf16);
  const md::SafetensorsFile file(o.model);
  md::check_model<demo>(file);
  md::AlignedBuffer memory(md::reflect::storage_floats<md::ModelWeights<demo>>());
  md::ModelWeights<demo> weights = md::reflect::bind<md::ModelWeights<demo>>(memory.data());
  md::read_weights(file, "", weights);
  const md::Tokenizer tokenizer = md::read_tokenizer(file, demo.text.vocabulary);
  const md::SamplingOptions sampling = md::sampling_of(file.metadata(), md::Sampling<demo>::defaults, o.model.string());
  emoji::Autoencoder vae(ex, o.model);
  const Handful handful = read_handful(o.pictures, o.fit, tokenizer, vae);
  const auto unconditional = tokenizer.encode_unconditional(demo.text.length);

  md::train::LoraTrainerOptions options;
  options.batch = o.batch;
  options.micro_batch = o.batch % 2 == 0 ? o.batch / 2 : o.batch;
  options.seed = o.lora.seed;
  options.optimizer.schedule = {o.rate, 0.1f * o.rate, 20, o.steps / 2, o.steps};
  if (!md::is_guided(sampling.guidance)) options.caption_dropout = 0.0f;
  if (md::renews_noise(sampling.sampler)) options.noise_share = 0.5f;
  using Weights = md::train::DiffusionWeights<demo>;
  md::train::LoraTrainer<demo> trainer(
      ex, options, Weights{weights.text_encoder, weights.unet},
      o.layers == "all" ? md::make_lora<Weights>(o.lora, is_any_layer) : md::make_lora<Weights>(o.lora));

  std::vector<const float*> pictures(o.batch);
  std::vector<std::int32_t> ids;
  double loss = 0;
  {
    examples::Progress progress("lora", o.steps);
    for (std::size_t step = 0; step < o.steps; ++step) {
      ids.clear();
      md::Random draw(options.seed, (std::uint64_t{2} << 32) + step);
      for (const float*& picture : pictures) {
        const std::size_t i = draw.below(static_cast<std::uint32_t>(handful.size));
        picture = &handful.latents[i * emoji::Autoencoder::latents];
        ids.insert(ids.end(), &handful.ids[i * demo.text.length], &handful.ids[i * demo.text.length] + demo.text.length);
      }
      const float now = trainer.step(pictures, ids.data(), unconditional.data()).loss;
      loss = step == 0 ? static_cast<double>(now) : 0.95 * loss + 0.05 * static_cast<double>(now);
      progress.update(step + 1, "loss " + std::to_string(loss));
    }
  }
  md::write_lora(o.out, trainer.lora, md::Dtype::f16,
                 {{"pictures", std::to_string(handful.size)}, {"steps", std::to_string(o.steps)}});
  std::printf("%s  %zu pictures, %zu parameters in %zu matrices, loss %.4f\n", o.out.c_str(), handful.size,
              trainer.lora.parameters(), trainer.lora.pairs().size(), loss);
  if (!o.merged.empty()) {
    md::merge_lora(weights, trainer.lora);
    md::Metadata metadata = file.metadata();
    metadata["lora"] = o.out.filename().string();
    if (examples::KnownWords words(metadata); !words.empty()) {
      for (const std::string& caption : handful.captions) words.add_caption(caption);
      words.write(metadata);
    }
    md::write_model<demo>(o.merged, weights, md::base64_decode(file.require_metadata(md::detail::tokenizer_key)), md::Dtype::f16,
                          metadata);
  }
}

void draw_sheet(const Options& o) {
  std::vector<md::Image> sheet;
  for (const float scale : {0.0f, 0.5f, 1.0f}) {
    md::TextToImage<demo> model(o.model, {{o.out, scale}}, o.threads);
    for (const std::string& prompt : o.prompts) sheet.push_back(model.generate({.prompt = prompt, .seed = 1}));
  }
  md::write_png(o.sheet, md::contact_sheet(sheet, o.prompts.size()));
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app{"Adapters for the demo model, from a handful of pictures", "lora"};
  app.add_option("--pictures", o.pictures, "folder of NAME.png or NAME.jpg, with captions in NAME.txt")
      ->required()
      ->type_name("FOLDER");
  app.add_option("--demo", o.demo_kind, "only draw pictures to learn from into that folder")
      ->check(CLI::IsMember({"style", "concept"}));
  app.add_option("--out", o.out, "the adapters; default lora.safetensors")->type_name("FILE");
  app.add_option("--model", o.model, "the model to adapt; default: the one-step model of this repository")->type_name("FILE");
  app.add_option("--merged", o.merged, "also write a whole model with the adapters merged")->type_name("FILE");
  app.add_option("--sheet", o.sheet, "PNG: each prompt before, with half, with all of it")->type_name("FILE");
  app.add_option("--prompt", o.prompts, "of the sheet; several are columns")->type_name("PROMPT")->allow_extra_args(false);
  app.add_option("--layers", o.layers,
                 "what is adapted: attention (its projections) or all (every linear layer and 1x1 convolution)")
      ->check(CLI::IsMember({"attention", "all"}))
      ->capture_default_str();
  examples::add_fit(app, o.fit);
  examples::add_count(app, "--rank", o.lora.rank, "");
  examples::add_number(app, "--alpha", "Adapters count alpha / rank; default 8", [&](float x) { o.lora.alpha = x; });
  examples::add_count(app, "--steps", o.steps, "");
  examples::add_count(app, "--batch", o.batch, "");
  examples::add_number(app, "--rate", "Peak learning rate; default 0.002", [&](float x) { o.rate = x; });
  examples::add_whole(app, "--seed", 0, UINT64_MAX, "Default 1", [&](auto n) { o.lora.seed = n; });
  examples::add_whole(app, "--threads", 0, 1024, "Default 0: all", [&](auto n) { o.threads = static_cast<int>(n); });
  app.footer("Exit status: 1 for files that cannot be used, 2 for wrong arguments.");
  app.callback([&] {
    if (o.sheet.empty() != o.prompts.empty()) throw CLI::ValidationError("--sheet", "expected together with --prompt");
  });
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  try {
    if (o.out.empty()) o.out = "lora.safetensors";
    if (!o.demo_kind.empty()) {
      draw_demo(o.demo_kind, o.pictures);
    } else {
      train(o);
      if (!o.sheet.empty()) draw_sheet(o);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "lora: %s\n", e.what());
    return 1;
  }
  return 0;
}
