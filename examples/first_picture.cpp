// SPDX-License-Identifier: Apache-2.0
// The shortest program: a model, a prompt, a picture.
#include <mobilediffusion/mobilediffusion.hpp>

namespace md = mobilediffusion;
static_assert(md::TextToImage<md::presets::emoji>::activation_bytes < (32 << 20));

int main() {
  md::TextToImage<md::presets::emoji> model("emoji_one_step.safetensors");
  md::Image image = model.generate({.prompt = "a red apple", .seed = 7}, []([[maybe_unused]] md::Progress p) { return true; });
  md::write_png("apple.png", image);
}
