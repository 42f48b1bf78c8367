// SPDX-License-Identifier: Apache-2.0
// What the command line asks for, and the models that this build can draw with: each is a type, compiled in a unit of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mobilediffusion/config/config.hpp"
#include "mobilediffusion/core/number_formats.hpp"
#include "mobilediffusion/diffusion/samplers.hpp"
#include "mobilediffusion/io/lora_file.hpp"
#include "mobilediffusion/io/resize.hpp"
#include "mobilediffusion/io/textual_inversion.hpp"
#include "mobilediffusion/model_source.hpp"
#include "mobilediffusion/session.hpp"

namespace text_to_image {

namespace md = mobilediffusion;

struct Options {
  md::ModelPaths paths;
  std::vector<md::LoraFile> loras;
  std::vector<md::EmbeddingFile> embeddings;
  md::Request request;
  std::optional<std::size_t> clip_skip;  // of the text encoder as it was trained: 1 is none
  std::string init_image, mask, output = "output.png";
  float strength = 0.75f;
  md::Fit fit = md::Fit::cover;
  std::size_t count = 1, batch = 1;
  md::Format format = md::Format::fp32;
  int threads = 0;
  bool quiet = false;
};

// A preset in one size of pictures, with the preset's autoencoder or a tiny one.
struct Compiled {
  std::string preset;
  std::size_t width, height;
  md::VaeKind vae;
  md::Prediction prediction;
  void (*draw)(const Options&);
};

// The models of this build, in a unit that CMake writes.
std::vector<Compiled> compiled_models();

}  // namespace text_to_image
