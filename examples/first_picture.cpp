// SPDX-License-Identifier: Apache-2.0
// The shortest program: a model, a prompt, a picture. The model lies beside this source; another one is the argument.
#include <cstdio>
#include <mobilediffusion/mobilediffusion.hpp>
#include <string>

namespace md = mobilediffusion;
using Model = md::TextToImage<md::presets::emoji>;
static_assert(Model::activation_bytes < (32 << 20));

int main(int argc, char** argv) {
  try {
    Model model(argc > 1 ? argv[1] : MOBILEDIFFUSION_DEMO_FOLDER "/emoji_one_step.safetensors");
    md::Image image = model.generate({.prompt = "a red apple", .seed = 7});
    md::write_png("apple.png", image);
    std::puts("apple.png");
  } catch (const std::exception& e) {  // md::Error, or too little memory
    std::fprintf(stderr, "first_picture: %s\n", e.what());
    return 1;
  }
}
