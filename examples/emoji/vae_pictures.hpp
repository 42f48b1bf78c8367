// SPDX-License-Identifier: Apache-2.0
// What the autoencoder is trained and measured on: scenes of everything that the font can draw, but for a few concepts.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bitmaps.hpp"
#include "dataset.hpp"
#include "training.hpp"

namespace emoji {

// The VAE never sees these concepts: its error is measured on them.
inline bool held_out_of_vae(const Concept& c) { return stable_hash({"vae", c.name}) % 25 == 0; }

// Scenes for the autoencoder: two of three from things, the rest from everything that can be drawn.
class VaePictures {
 public:
  explicit VaePictures(std::uint64_t seed)
      : entries_(read_names()),
        all_(Level::all, entries_),
        bitmaps_(load_bitmaps(all_)),
        things_(Level::objects, entries_),
        everything_(all_, visibility_of(bitmaps_), seed),
        only_things_(things_, visibility_of(load_bitmaps(things_)), seed) {
    for (std::size_t i = 0; i < all_.size(); ++i)
      if (held_out_of_vae(all_[i])) held_out_.push_back(i);
  }
  Scene scene(std::uint64_t index) const {
    for (std::uint64_t attempt = 0;; ++attempt) {
      const Scene s = (index % 3 == 0 ? everything_ : only_things_).autoencoder_scene(index * 64 + attempt);
      if (std::none_of(s.objects.begin(), s.objects.end(),
                       [&](const Placement& p) { return held_out_of_vae(all_[p.concept_id]); }))
        return s;
    }
  }
  // Pictures of concepts that training leaves out, centred, each on three backgrounds: more than 200.
  std::vector<Scene> held_out() const {
    std::vector<Scene> out;
    for (std::size_t k = 0; k < held_out_.size(); ++k)
      for (std::size_t b = 0; b < 3; ++b) out.push_back({{layout::single(held_out_[k])}, (k + 4 * b) % backgrounds.size()});
    return out;
  }
  void render(const Scene& s, float* out) const { bitmaps_.render(s, std::span<float>(out, picture_bytes)); }

 private:
  std::vector<Entry> entries_;
  Vocabulary all_;
  Bitmaps bitmaps_;
  Vocabulary things_;
  Dataset everything_, only_things_;
  std::vector<std::size_t> held_out_;
};

inline double psnr_of(double mean_squared_error, double range) { return 10.0 * std::log10(range * range / mean_squared_error); }

// Mean PSNR in dB of at most `limit` pictures of concepts that the VAE never saw; model: a trainer or an Autoencoder.
template <class Model>
double vae_psnr(Model& model, const VaePictures& pictures, std::size_t limit, md::Image* sheet = nullptr) {
  const auto scenes = pictures.held_out();
  const std::size_t count = std::min(limit, scenes.size());
  std::vector<float> x(picture_bytes), y(picture_bytes), z(md::Vae<demo.vae>::latent_floats);
  std::vector<md::Image> images;
  double sum = 0;
  for (std::size_t k = 0; k < count; ++k) {
    pictures.render(scenes[k * scenes.size() / count], x.data());
    model.encode(x.data(), 1, z.data());
    model.decode(z.data(), 1, y.data());
    double error = 0;
    for (std::size_t i = 0; i < picture_bytes; ++i) {
      const double e = static_cast<double>(x[i]) - static_cast<double>(std::clamp(y[i], -1.0f, 1.0f));
      error += e * e;
    }
    sum += psnr_of(error / static_cast<double>(picture_bytes), 2.0);
    if (sheet != nullptr && k < 32) images.push_back(to_image(x)), images.push_back(to_image(y));
  }
  if (sheet != nullptr) *sheet = md::contact_sheet(images, 8);
  return sum / static_cast<double>(count);
}

}  // namespace emoji
