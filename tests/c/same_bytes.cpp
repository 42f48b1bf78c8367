// SPDX-License-Identifier: Apache-2.0
// What the C interface draws is what the C++ one draws, byte for byte: every field of a request reaches its place.
#include <mobilediffusion/c_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/pipeline.hpp>
#include <vector>

namespace {

namespace md = mobilediffusion;
using Painter = md::ImageToImage<md::presets::emoji>;

struct Case {
  const char* name;
  std::function<md::Image(Painter&)> expected;
  std::function<void(mobilediffusion_request&)> set;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  // The library has fewer instruction sets than this program may have.
  setenv("MOBILEDIFFUSION_ISA", mobilediffusion_instruction_set(), 1);
  Painter painter(argv[1]);
  mobilediffusion_error error{};
  mobilediffusion_model* model = nullptr;
  mobilediffusion_session* session = nullptr;
  if (mobilediffusion_model_open(argv[1], nullptr, &model, &error) != MOBILEDIFFUSION_OK ||
      mobilediffusion_session_open(model, nullptr, &session, &error) != MOBILEDIFFUSION_OK) {
    std::printf("%s\n", error.message);
    return 1;
  }
  mobilediffusion_model_close(model);

  const md::Request apple{.prompt = "a red apple", .seed = 7};
  const md::Image picture = painter.generate({.prompt = "a fox on a light blue background", .seed = 3});
  md::Image painted(Painter::width, Painter::height);
  std::vector<std::uint8_t> mask(Painter::width * Painter::height);
  for (std::size_t i = 0; i < mask.size(); ++i) {
    mask[i] = i % Painter::width < 60 ? 0 : i % Painter::width < 70 ? 128 : 255;
    for (std::size_t k = 0; k < 3; ++k) painted.rgb[3 * i + k] = mask[i];
  }
  std::vector<float> noise(Painter::latent_floats);
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = static_cast<float>(i * 37 % 101) / 29.0f - 1.7f;
  const auto with_picture = [&](mobilediffusion_request& r) {
    r.picture = picture.rgb.data();
    r.picture_bytes = picture.rgb.size();
  };
  const auto with_mask = [&](mobilediffusion_request& r) {
    with_picture(r);
    r.mask = mask.data();
    r.mask_bytes = mask.size();
  };

  const Case cases[] = {
      {"a prompt", [&](Painter& p) { return p.generate(apple); }, [](mobilediffusion_request&) {}},
      {"everything",
       [&](Painter& p) {
         md::Request r = apple;
         r.negative = "a fox";
         r.seed = 0x123456789ABCDEF0;
         r.steps = 3;
         r.guidance = 2.5f;
         r.sampler = md::Euler{};
         r.noise = md::NoiseKind::torch;
         r.words.weights = true;
         r.prompt = "a (red:1.5) apple";
         return p.generate(r);
       },
       [](mobilediffusion_request& r) {
         r.prompt = "a (red:1.5) apple";
         r.negative = "a fox";
         r.seed = 0x123456789ABCDEF0;
         r.steps = 3;
         r.guidance = 2.5f;
         r.sampler = "euler";
         r.flags = MOBILEDIFFUSION_TORCH_NOISE | MOBILEDIFFUSION_PROMPT_WEIGHTS;
       }},
      {"noise",
       [&](Painter& p) {
         md::Request r = apple;
         r.latents = noise;
         return p.generate(r);
       },
       [&](mobilediffusion_request& r) {
         r.noise = noise.data();
         r.noise_floats = noise.size();
       }},
      {"a picture", [&](Painter& p) { return p.image_to_image(picture, apple); }, with_picture},
      {"a strength", [&](Painter& p) { return p.image_to_image(picture, apple, 0.9f); },
       [&](mobilediffusion_request& r) {
         with_picture(r);
         r.strength = 0.9f;
       }},
      {"a mask", [&](Painter& p) { return p.inpaint(picture, painted, apple); }, with_mask},
  };
  int failures = 0;
  std::vector<std::vector<std::uint8_t>> drawn;
  for (const Case& c : cases) {
    mobilediffusion_request r;
    mobilediffusion_request_init(&r);
    r.prompt = apple.prompt.c_str();
    r.seed = apple.seed;
    c.set(r);
    std::vector<std::uint8_t> rgb(picture.rgb.size());
    const bool good = mobilediffusion_generate(session, &r, rgb.data(), rgb.size(), &error) == MOBILEDIFFUSION_OK &&
                      rgb == c.expected(painter).rgb;
    bool new_one = true;
    for (const auto& other : drawn) new_one = new_one && other != rgb;
    if (!good || !new_one) std::printf("%s: %s %s\n", c.name, good ? "as another" : "differs", error.message);
    failures += !good || !new_one;
    drawn.push_back(rgb);
  }
  // In place.
  mobilediffusion_request r;
  mobilediffusion_request_init(&r);
  r.prompt = apple.prompt.c_str();
  r.seed = apple.seed;
  std::vector<std::uint8_t> rgb = picture.rgb;
  with_mask(r);
  r.picture = rgb.data();
  if (mobilediffusion_generate(session, &r, rgb.data(), rgb.size(), &error) != MOBILEDIFFUSION_OK || rgb != drawn.back()) {
    std::printf("in place: differs %s\n", error.message);
    ++failures;
  }
  mobilediffusion_session_close(session);
  return failures;
}
