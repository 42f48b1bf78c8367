// SPDX-License-Identifier: Apache-2.0
// Measures a trained model of the demo on fixed lists of prompts, seen and held out.
//
//   evaluate --model emoji.safetensors --sheet sheet.png
//
// Ranks ask whether an object is nearer to its true picture than to those of all other concepts (top-1, or among the first
// five); PSNR is that of the objects' boxes. NAME_vae is what the autoencoder alone scores, NAME_blind what pictures do that
// were generated without the prompt: a model's figure lies between the two. The Frechet distance compares all generated pictures
// with the true ones, by features of the autoencoder's encoder; variety tells how much the noise changes a picture (grey levels).
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/arguments.hpp"
#include "emoji/evaluation.hpp"

namespace md = mobilediffusion;

int main(int argc, char** argv) {
  emoji::EvaluationOptions o;
  std::string model, sheet;
  bool json = false, vae_only = false;
  CLI::App app{"Figures of a trained model, with the bounds that belong to them", "evaluate"};
  app.add_option("--model", model, "Weights; with --vae-only also the autoencoder's own file")->type_name("FILE")->required();
  app.add_option_function<std::string>(
         "--level", [&](const std::string& name) { o.level = emoji::level_from(name); },
         "Vocabulary: animals-foods, objects or all; default: that of the training")
      ->check(CLI::IsMember({"animals-foods", "objects", "all"}));
  examples::add_whole(app, "--limit", 1, 100000, "Prompts of each list; default 200",
                      [&](auto n) { o.limit = static_cast<std::size_t>(n); });
  examples::add_whole(app, "--steps", 1, 1000, "Of the sampler; default: what the model was made for",
                      [&](auto n) { o.steps = static_cast<std::size_t>(n); });
  examples::add_number(app, "--guidance", "How strictly to follow the prompt; default: the model's",
                       [&](float x) { o.guidance = x; });
  examples::add_whole(app, "--seed", 0, UINT64_MAX, "Of the noise; default 0", [&](auto n) { o.drawing.seed = n; });
  examples::add_whole(app, "--threads", 0, 1024, "Default 0: all that the machine has",
                      [&](auto n) { o.threads = static_cast<int>(n); });
  examples::add_format(app, [&](md::Format f) { o.drawing.packed = f; });
  app.add_option("--sheet", sheet, "A picture of some prompts of each list: true, reconstructed, generated")
      ->type_name("FILE.png");
  std::vector<std::string> names(emoji::figures_of_sets.begin(), emoji::figures_of_sets.end());
  for (const emoji::Figure& f : emoji::figures) names.emplace_back(f.name);
  app.add_option("--figures", o.wanted, "Only these, separated by commas")
      ->delimiter(',')
      ->type_name("NAMES")
      ->check(CLI::IsMember(names));
  app.add_flag("--json", json, "One JSON object instead of lines");
  app.add_flag("--vae-only", vae_only, "Only the autoencoder, on concepts that it never saw");
  app.footer("Exit status: 1 for files that cannot be used, 2 for wrong arguments.");
  app.callback([&] {
    if (!sheet.empty() && std::filesystem::path(sheet).extension() != ".png")
      throw CLI::ValidationError("--sheet", "expected the name of a .png file, found " + md::detail::printable(sheet));
    const auto asked = [&](std::string_view name) { return std::find(o.wanted.begin(), o.wanted.end(), name) != o.wanted.end(); };
    if (asked("frechet_distance") &&
        std::none_of(emoji::figures.begin(), emoji::figures.end(), [&](const emoji::Figure& f) { return asked(f.name); }))
      throw CLI::ValidationError("--figures", "frechet_distance: expected a figure of a list beside it");
  });
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  o.sheet = sheet;
  try {
    const emoji::Results results = vae_only ? emoji::evaluate_vae(model, o) : emoji::evaluate(model, o);
    if (json) {
      nlohmann::ordered_json object;
      for (const auto& [name, value] : results) object[name] = value;
      std::printf("%s\n", object.dump(2).c_str());
    } else {
      for (const auto& [name, value] : results) std::printf("%s: %.4g\n", name.c_str(), value);
    }
    if (std::fflush(stdout) != 0) throw md::Error("standard output: cannot write");
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "evaluate: expected enough memory, found too little\n");
    return 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "evaluate: %s\n", e.what());
    return 1;
  }
  return 0;
}
