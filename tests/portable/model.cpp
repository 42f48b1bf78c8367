// SPDX-License-Identifier: Apache-2.0
// A user's unit for tests/compilers, with the warnings of a strict user: every way to draw, and training.
#include <mobilediffusion/mobilediffusion.hpp>
#include <mobilediffusion/train/lora_trainer.hpp>

using namespace mobilediffusion;
using Painter = ImageToImage<presets::tiny, Format::int8>;
template class mobilediffusion::train::LoraTrainer<presets::tiny>;

Image draw(const char* path);
Image draw(const char* path) {
  Painter model(path);
  const Image first = model.generate({.prompt = "a fox"}, [](Progress) {});
  const Image second = model.image_to_image(first, {.prompt = "a fox"}, 0.5f, [](Progress p) { return p.step < 3; });
  return model.inpaint(first, second, {.prompt = "a fox"});
}
