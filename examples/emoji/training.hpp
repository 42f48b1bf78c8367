// SPDX-License-Identifier: Apache-2.0
// What the stages of the demo's training share: options, logs, pictures.
#pragma once

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "dataset.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/io/atomic_file.hpp"
#include "mobilediffusion/io/image.hpp"
#include "mobilediffusion/model_file.hpp"
#include "picture.hpp"
#include "vocabulary.hpp"

namespace emoji {

namespace md = mobilediffusion;
inline constexpr md::ModelConfig demo = md::presets::emoji;

struct TrainingOptions {
  std::filesystem::path out;
  Level level = Level::animals_and_foods;
  md::Precision precision = md::Precision::bf16;
  int threads = 0;
  std::uint64_t seed = 1;
  std::size_t vae_steps = 3500, decoder_steps = 3200, vae_batch = 8;
  float vae_rate = 1.5e-3f, decoder_rate = 1e-3f;
  std::size_t steps = 21500, single_steps = 7000, batch = 32, micro_batch = 16;
  Mixture first = singles_mixture, then = scenes_mixture;  // of the first single_steps, and of the others
  float rate = 1e-3f;
  std::size_t warmup_steps = 300;
  std::filesystem::path from{};  // a model file whose text encoder and UNet the last stage starts from
  std::size_t scenes = 32000;
  std::size_t save_every = 250, sheet_every = 2000;
};

// rgb of 0 to 255 -> -1 to 1.
inline void to_floats(const md::Image& image, float* out) {
  std::transform(image.rgb.begin(), image.rgb.end(), out, [](std::uint8_t b) { return static_cast<float>(b) / 127.5f - 1.0f; });
}
inline md::Image to_image(std::span<const float> picture) {
  md::Image image;
  image.width = image.height = picture_size;
  image.rgb = to_bytes(picture);
  return image;
}

// A CSV file that grows with the training. What an interrupted training wrote after its last checkpoint is dropped, so that
// no step is in it twice, and time goes on from there. Rows begin with step and seconds.
class Log {
 public:
  // step: done so far; 0: begins anew.
  Log(const std::filesystem::path& path, std::size_t step, const std::string& header) {
    std::string text = header + '\n';
    if (std::ifstream old(path); old && step > 0) {
      std::string line;
      std::getline(old, line);
      for (std::size_t at = 0; std::getline(old, line);) {
        double seconds = 0;
        if (std::sscanf(line.c_str(), "%zu,%lf", &at, &seconds) != 2 || at > step) break;
        text += line + '\n';
        before_ = seconds;
      }
    }
    md::write_file(path, text);
    file_.open(path, std::ios::app);
    if (!file_) throw md::Error("cannot write " + path.string());
  }
  template <class... Values>
  void row(std::size_t step, double seconds, const Values&... values) {
    file_ << step << ',' << before_ + seconds;
    ((file_ << ',' << values), ...);
    file_ << std::endl;  // rows are few, and wanted while the training runs
  }

 private:
  std::ofstream file_;
  double before_ = 0;
};

// FNV-1a over a file's bytes.
inline std::string file_checksum(const std::filesystem::path& path) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : md::read_file(path)) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return md::detail::hexadecimal(h);
}

// The vocabulary that a model was trained on, as its file tells; else the smallest.
inline Level trained_level(const md::Metadata& metadata, const std::vector<Entry>& names) {
  const auto at = metadata.find("training.concepts");
  for (const Level l : {Level::objects, Level::all})
    if (at != metadata.end() && std::to_string(Vocabulary(l, names).size()) == at->second) return l;
  return Level::animals_and_foods;
}

}  // namespace emoji
