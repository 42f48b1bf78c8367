// SPDX-License-Identifier: Apache-2.0
// Paints a part of pictures anew by words; all else stays byte for byte.
//
//   inpaint --picture pair.png --mask right.png --prompt "a cat to the left of a frog" --out new.png
//   inpaint --picture pair.png --box 64,0,64,128 --prompt "a cat to the left of a frog" --out new.png
//
// The mask is a picture of the same shape, white where to paint, black or transparent elsewhere; --box X,Y,WIDTH,HEIGHT stands
// for one. The prompt is of the whole picture. A picture of another size than the model's 128 x 128 is cut to its middle and
// resized, with its mask (not with a box); --fit says how else. --out - is standard output. Several --picture, --prompt and
// --mask (or --box) belong together in order: then, or with --count, the result is a sheet with a row for each: the old picture,
// what of it is kept, and the new ones.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "common/arguments.hpp"
#include "common/known_words.hpp"
#include "common/read_picture.hpp"
#include "common/write_picture.hpp"
#include "mobilediffusion/mobilediffusion.hpp"

namespace md = mobilediffusion;

namespace {

using Model = md::ImageToImage<md::presets::emoji>;

md::Image box_mask(const std::string& box) {
  std::array<unsigned, 4> b{};  // x, y, width, height
  char end = 0;
  if (std::sscanf(box.c_str(), "%u,%u,%u,%u%c", &b[0], &b[1], &b[2], &b[3], &end) != 4 || b[2] == 0 || b[3] == 0 ||
      b[0] >= Model::width || b[1] >= Model::height || b[2] > Model::width - b[0] || b[3] > Model::height - b[1])
    throw CLI::ValidationError("--box", "expected X,Y,WIDTH,HEIGHT inside the picture, found " + md::detail::printable(box));
  md::Image mask(Model::width, Model::height);
  for (std::size_t y = b[1]; y < b[1] + b[3]; ++y)
    std::fill_n(&mask.rgb[(y * Model::width + b[0]) * 3], b[2] * 3, std::uint8_t{255});
  return mask;
}

// The picture with a chequered pattern where it will be painted.
md::Image kept(md::Image picture, const md::Image& mask) {
  for (std::size_t y = 0; y < picture.height; ++y)
    for (std::size_t x = 0; x < picture.width; ++x)
      for (std::size_t c = 0; c < 3 && mask.at(x, y, c) >= 128; ++c)
        picture.at(x, y, c) = (x / 8 + y / 8) % 2 == 0 ? std::uint8_t{200} : std::uint8_t{236};
  return picture;
}

}  // namespace

int main(int argc, char** argv) {
  std::string model_file, out;
  std::vector<std::string> pictures, prompts, masks, boxes;
  md::Request request;
  float strength = 1.0f;
  std::size_t count = 1;
  md::Fit fit = md::Fit::cover;
  int threads = 0;
  CLI::App app{"Parts of pictures painted anew", "inpaint"};
  app.add_option("--picture", pictures, "PNG or JPEG")->required()->type_name("FILE")->allow_extra_args(false);
  app.add_option("--prompt", prompts, "Of the whole new picture")->required()->type_name("PROMPT")->allow_extra_args(false);
  auto* mask_option = app.add_option("--mask", masks, "Picture that is white where to paint, black or transparent elsewhere")
                          ->type_name("FILE")
                          ->allow_extra_args(false);
  app.add_option("--box", boxes, "Paint in this rectangle of 128 x 128 pixels; instead of --mask")
      ->type_name("X,Y,W,H")
      ->allow_extra_args(false)
      ->excludes(mask_option);
  app.add_option("--out", out, "PNG; - is standard output")->required()->type_name("FILE");
  examples::add_fit(app, fit);
  examples::add_strength(app, "Below 1, what is painted over shows through; default 1", [&](float x) {
    strength = x;
  })->expected(1);
  examples::add_whole(app, "--seed", 0, UINT64_MAX, "Of the first; default 0", [&](auto n) { request.seed = n; });
  examples::add_whole(app, "--count", 1, 100, "New pictures of each, with the seeds that follow; default 1",
                      [&](auto n) { count = static_cast<std::size_t>(n); });
  examples::add_whole(app, "--steps", 1, 1000, "Default: the model's, at least 4",
                      [&](auto n) { request.steps = static_cast<std::size_t>(n); });
  examples::add_number(app, "--guidance", "Default: the model's", [&](float x) { request.guidance = x; });
  examples::add_whole(app, "--threads", 0, 1024, "Default 0: all", [&](auto n) { threads = static_cast<int>(n); });
  app.add_option("--model", model_file, examples::shipped_model_help)->type_name("FILE");
  std::vector<md::Image> boxed;
  app.callback([&] {
    if (pictures.size() != prompts.size() || pictures.size() != masks.size() + boxes.size())
      throw CLI::ValidationError(
          "--picture", "expected a prompt and a mask or box for each, found " + std::to_string(prompts.size()) + " and " +
                           std::to_string(masks.size() + boxes.size()) + " for " + std::to_string(pictures.size()));
    for (const std::string& box : boxes) boxed.push_back(box_mask(box));
  });
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  if (model_file.empty()) model_file = examples::shipped_model(request.steps, request.guidance);
  try {
    examples::check_output(out);
    Model model(model_file, threads);
    std::vector<md::Image> sheet;
    const examples::KnownWords known(model.metadata());
    for (const std::string& prompt : prompts)
      examples::check_prompt("inpaint", "", prompt, model.tokenizer(), Model::context_length, known);
    const std::uint64_t seed = request.seed;
    for (std::size_t i = 0; i < pictures.size(); ++i) {
      const auto [picture, mask] =
          masks.empty() ? std::pair(examples::read_picture("inpaint", pictures[i], Model::width, Model::height, fit), boxed[i])
                        : examples::read_picture_and_mask("inpaint", pictures[i], masks[i], Model::width, Model::height, fit);
      request.prompt = prompts[i];
      std::vector<md::Image> painted;
      for (std::size_t k = 0; k < count; ++k) {
        request.seed = seed + k;
        painted.push_back(model.inpaint(picture, mask, request, strength));
      }
      sheet.push_back(picture);
      sheet.push_back(kept(picture, mask));
      sheet.insert(sheet.end(), painted.begin(), painted.end());
    }
    examples::write_picture(out, sheet.size() == 3 ? sheet[2] : md::contact_sheet(sheet, 2 + count));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "inpaint: %s\n", e.what());
    return 1;
  }
  return 0;
}
