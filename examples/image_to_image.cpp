// SPDX-License-Identifier: Apache-2.0
// Changes whole pictures by words: the prompt says what is to be seen, the strength how much of the old picture may go.
//
//   image_to_image --picture apple.png --prompt "a green apple" --strength 0.6 --out green.png
//
// --picture and --prompt may be given several times, in pairs, and --strength several values: then the result is a sheet with a
// row for each pair, the old picture first and a new one for each strength after it. A picture of another size is cut to its
// middle and resized; --fit says how else. --out - is standard output.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "common/arguments.hpp"
#include "common/known_words.hpp"
#include "common/read_picture.hpp"
#include "common/write_picture.hpp"
#include "mobilediffusion/mobilediffusion.hpp"

namespace md = mobilediffusion;

int main(int argc, char** argv) {
  std::string model_file, out;
  std::vector<std::string> pictures, prompts;
  std::vector<float> strengths;
  md::Request request;
  md::Fit fit = md::Fit::cover;
  int threads = 0;
  CLI::App app{"New pictures from pictures and words", "image_to_image"};
  app.add_option("--picture", pictures, "PNG or JPEG")->required()->type_name("FILE")->allow_extra_args(false);
  app.add_option("--prompt", prompts, "Of the new picture")->required()->type_name("PROMPT")->allow_extra_args(false);
  examples::add_strength(app, "Above 0, at most 1: how much may change; default 0.6", [&](float x) { strengths.push_back(x); });
  app.add_option("--out", out, "PNG; - is standard output")->required()->type_name("FILE");
  examples::add_fit(app, fit);
  examples::add_whole(app, "--seed", 0, UINT64_MAX, "Default 0", [&](auto n) { request.seed = n; });
  examples::add_whole(app, "--steps", 1, 1000, "From noise; a share of them is taken. Default: the model's",
                      [&](auto n) { request.steps = static_cast<std::size_t>(n); });
  examples::add_number(app, "--guidance", "Default: the model's", [&](float x) { request.guidance = x; });
  examples::add_whole(app, "--threads", 0, 1024, "Default 0: all", [&](auto n) { threads = static_cast<int>(n); });
  app.add_option("--model", model_file, examples::shipped_model_help)->type_name("FILE");
  app.callback([&] {
    if (pictures.size() != prompts.size())
      throw CLI::ValidationError("--prompt", "expected one for each picture, found " + std::to_string(prompts.size()) + " for " +
                                                 std::to_string(pictures.size()));
  });
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  if (strengths.empty()) strengths = {0.6f};
  if (model_file.empty()) model_file = examples::shipped_model(request.steps, request.guidance);
  try {
    using Model = md::ImageToImage<md::presets::emoji>;
    examples::check_output(out);
    Model model(model_file, threads);
    std::vector<md::Image> sheet;
    const examples::KnownWords known(model.metadata());
    for (const std::string& prompt : prompts)
      examples::check_prompt("image_to_image", "", prompt, model.tokenizer(), Model::context_length, known);
    for (std::size_t i = 0; i < pictures.size(); ++i) {
      sheet.push_back(examples::read_picture("image_to_image", pictures[i], Model::width, Model::height, fit));
      const md::Image picture = sheet.back();
      request.prompt = prompts[i];
      for (const float strength : strengths) sheet.push_back(model.image_to_image(picture, request, strength));
    }
    examples::write_picture(out, sheet.size() == 2 ? sheet[1] : md::contact_sheet(sheet, 1 + strengths.size()));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "image_to_image: %s\n", e.what());
    return 1;
  }
  return 0;
}
