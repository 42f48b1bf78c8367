// SPDX-License-Identifier: Apache-2.0
// What both stages of the demo's training share: options, logs, pictures.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "picture.hpp"
#include "vocabulary.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/io/image.hpp"
#include "mobilediffusion/core/executor.hpp"

namespace emoji {

namespace md = mobilediffusion;
inline constexpr md::ModelConfig demo = md::presets::emoji;

struct TrainingOptions {
  std::filesystem::path out;
  Level level = Level::animals_and_foods;
  md::Precision precision = md::Precision::bf16;
  int threads = 0;
  std::uint64_t seed = 1;
  std::size_t vae_steps = 2600, vae_batch = 8;
  float vae_rate = 1.5e-3f;
  std::size_t steps = 6000, batch = 64, micro_batch = 16;
  float rate = 1.2e-3f;
  std::size_t scenes = 16000;
  std::size_t save_every = 250, sheet_every = 1000;
};

inline md::Image to_image(std::span<const float> picture) {
  md::Image image;
  image.width = image.height = picture_size;
  image.rgb = to_bytes(picture);
  return image;
}

inline std::ofstream open_log(const std::filesystem::path& path, bool append, const char* header) {
  const bool fresh = !append || !std::filesystem::exists(path);
  std::ofstream log(path, fresh ? std::ios::trunc : std::ios::app);
  if (!log) throw md::Error("cannot write " + path.string());
  if (fresh) log << header << '\n';
  return log;
}

}  // namespace emoji
