// SPDX-License-Identifier: Apache-2.0
// What a trained model can do, in figures: pictures of fixed lists of prompts, scored against the true pictures. Beside each
// figure stand its bounds: what the autoencoder alone would score, and what a model would that never hears the prompt.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../common/lettering.hpp"
#include "../common/progress.hpp"
#include "drawing.hpp"
#include "mobilediffusion/model_file.hpp"
#include "scoring.hpp"
#include "statistics.hpp"
#include "vae_pictures.hpp"

namespace emoji {

enum class Statistic { top1, top5, psnr, background, count };

struct Figure {
  std::string_view name, list;
  Statistic statistic;
};

// Figures of one list are read from the same pictures.
inline constexpr std::array figures{
    Figure{"seen_object_top1", "seen singles", Statistic::top1},
    Figure{"seen_object_top5", "seen singles", Statistic::top5},
    Figure{"seen_object_psnr", "seen singles", Statistic::psnr},
    Figure{"seen_background", "seen singles", Statistic::background},
    Figure{"heldout_object_top1", "held-out singles", Statistic::top1},
    Figure{"heldout_object_psnr", "held-out singles", Statistic::psnr},
    Figure{"heldout_background", "held-out singles", Statistic::background},
    Figure{"seen_count", "seen counts", Statistic::count},
    Figure{"heldout_count", "held-out counts", Statistic::count},
    Figure{"seen_pair_top5", "seen pairs", Statistic::top5},
    Figure{"heldout_pair_top1", "held-out pairs", Statistic::top1},
    Figure{"heldout_pair_top5", "held-out pairs", Statistic::top5},
    Figure{"heldout_size_top5", "held-out sizes", Statistic::top5},
    Figure{"people_seen_top1", "people: seen", Statistic::top1},
    Figure{"people_cell_top1", "people: held-out cells", Statistic::top1},
    Figure{"people_role_tone_top1", "people: held-out roles and tones", Statistic::top1},
    Figure{"people_role_gender_top1", "people: held-out roles and genders", Statistic::top1},
};
// Figures that belong to no list.
inline constexpr std::array<std::string_view, 3> figures_of_sets{"vae_psnr", "frechet_distance", "variety"};
inline bool of_people(const Figure& f) { return f.name.substr(0, 6) == "people"; }

inline std::vector<Sample> list_of(const Dataset& d, std::string_view name, std::size_t limit) {
  if (name == "seen singles") return d.seen_singles(limit);
  if (name == "held-out singles") return d.heldout_singles(limit);
  if (name == "seen counts") return d.seen_counts(limit);
  if (name == "held-out counts") return d.heldout_counts(limit);
  if (name == "seen pairs") return d.seen_pairs(limit);
  if (name == "held-out pairs") return d.heldout_pairs(limit);
  if (name == "held-out sizes") return d.heldout_sizes(limit);
  if (name == "people: seen") return d.people(PersonSplit::training, limit);
  if (name == "people: held-out cells") return d.people(PersonSplit::cell, limit);
  if (name == "people: held-out roles and tones") return d.people(PersonSplit::role_tone, limit);
  if (name == "people: held-out roles and genders") return d.people(PersonSplit::role_gender, limit);
  throw md::Error("evaluation: no list is called " + std::string(name));
}

// Among all lists, in the order of the figures.
inline std::size_t place_of(std::string_view list) {
  std::vector<std::string_view> before;
  for (const Figure& f : figures) {
    if (f.list == list) break;
    if (std::find(before.begin(), before.end(), f.list) == before.end()) before.push_back(f.list);
  }
  return before.size();
}

inline double value_of(const Report& r, Statistic s) {
  switch (s) {
    case Statistic::top1:
      return r.top1;
    case Statistic::top5:
      return r.top5;
    case Statistic::psnr:
      return r.psnr;
    case Statistic::background:
      return r.background_right;
    case Statistic::count:
      break;
  }
  return r.count_right;
}

struct EvaluationOptions {
  int threads = 0;
  std::optional<Level> level{};  // default: that of the training, as the file tells
  std::size_t limit = 200, blind = 64, sheet_pictures = 6;
  std::size_t pictures_each = 1;  // of a prompt, each with noise of its own
  DrawingOptions drawing{.packed = md::Format::fp32};
  // Instead of what a model's file asks for.
  std::optional<std::size_t> steps{};
  std::optional<float> guidance{};
  std::vector<std::string> wanted{};  // names, also of figures_of_sets; empty: all of the level
  std::filesystem::path sheet{};      // empty: none
};

// In the order in which they are to be read.
using Results = std::vector<std::pair<std::string, double>>;

// Rows of triples (true picture, reconstruction, generated picture), each with its prompt, under the name of their list.
class EvaluationSheet {
 public:
  struct Triple {
    std::string caption;
    std::array<md::Image, 3> images;
  };
  void add(std::string_view title, std::vector<Triple> triples) { lists_.emplace_back(title, std::move(triples)); }

  md::Image image() const {
    constexpr std::size_t side = picture_size, gap = 3, columns = 3, margin = 16, triple = 3 * side + 2 * gap;
    constexpr std::size_t text_lines = 2, cell = side + 6 + text_lines * examples::line_height + 8, title_height = 24;
    std::size_t height = margin;
    for (const auto& [title, triples] : lists_) height += title_height + (triples.size() + columns - 1) / columns * cell + margin;
    md::Image sheet(columns * triple + (columns + 1) * margin, height, 250);
    std::size_t y = margin;
    for (const auto& [title, triples] : lists_) {
      examples::write(sheet, margin, y, title + "   -   true | reconstructed | generated", {0, 70, 140});
      y += title_height;
      for (std::size_t i = 0; i < triples.size(); ++i) {
        const std::size_t x = margin + i % columns * (triple + margin), top = y + i / columns * cell;
        for (std::size_t k = 0; k < 3; ++k)
          for (std::size_t row = 0; row < side; ++row)
            std::copy_n(&triples[i].images[k].rgb[row * side * 3], side * 3,
                        &sheet.rgb[((top + row) * sheet.width + x + k * (side + gap)) * 3]);
        const auto lines = examples::wrapped(triples[i].caption, triple / examples::letter_width);
        for (std::size_t l = 0; l < std::min(lines.size(), text_lines); ++l)
          examples::write(sheet, x, top + side + 6 + l * examples::line_height, lines[l], {40, 40, 40});
      }
      y += (triples.size() + columns - 1) / columns * cell + margin;
    }
    return sheet;
  }

 private:
  std::vector<std::pair<std::string, std::vector<Triple>>> lists_;
};

// The true pictures through encoder and decoder.
inline std::vector<md::Image> reconstructions(Autoencoder& vae, const std::vector<md::Image>& truth) {
  std::vector<md::Image> out;
  std::vector<float> x(Autoencoder::group * picture_bytes), z(Autoencoder::group * Autoencoder::latents);
  for (std::size_t first = 0; first < truth.size(); first += Autoencoder::group) {
    const std::size_t n = std::min(Autoencoder::group, truth.size() - first);
    for (std::size_t i = 0; i < n; ++i) to_floats(truth[first + i], &x[i * picture_bytes]);
    vae.encode(x.data(), n, z.data());
    vae.decode(z.data(), n, x.data());
    for (std::size_t i = 0; i < n; ++i) out.push_back(to_image({&x[i * picture_bytes], picture_bytes}));
  }
  return out;
}

// The autoencoder alone, of its own file or a whole model's: mean PSNR on concepts that it never saw, and its latents' size.
inline Results evaluate_vae(const std::filesystem::path& path, const EvaluationOptions& o) {
  const md::Executor ex(o.threads);
  Autoencoder vae(ex, path, o.drawing.packed);
  const VaePictures pictures(1);
  Results out{{"vae_psnr", vae_psnr(vae, pictures, o.limit)}};
  constexpr std::size_t channels = demo.vae.latent_channels, probes = 64;
  std::array<double, channels> sum{}, square{};
  std::vector<float> x(picture_bytes), z(Autoencoder::latents);
  for (std::size_t k = 0; k < probes; ++k) {
    pictures.render(pictures.scene(2'000'000 + k), x.data());
    vae.encode(x.data(), 1, z.data());
    for (std::size_t i = 0; i < z.size(); ++i) {
      sum[i % channels] += static_cast<double>(z[i]);
      square[i % channels] += static_cast<double>(z[i]) * static_cast<double>(z[i]);
    }
  }
  const double n = static_cast<double>(probes * Autoencoder::latents / channels);
  double all = 0;
  for (const double s : square) all += s;
  out.emplace_back("latent_deviation", std::sqrt(all / (n * static_cast<double>(channels))));
  for (std::size_t k = 0; k < channels; ++k) {
    out.emplace_back("latent_mean_" + std::to_string(k), sum[k] / n);
    out.emplace_back("latent_deviation_" + std::to_string(k), std::sqrt(square[k] / n - sum[k] / n * sum[k] / n));
  }
  return out;
}

// Figures of model M with these weights, kept as o.drawing.packed tells, on the vocabulary that the bitmaps belong to. M is the
// demo or differs from it in its UNet. Throws md::Error for figures that the vocabulary does not have.
template <md::ModelConfig M = demo, class Weights>
Results evaluate(const md::Executor& ex, const Weights& weights, const md::Tokenizer& tokenizer, Autoencoder& vae,
                 const Vocabulary& vocabulary, const Bitmaps& bitmaps, const EvaluationOptions& o) {
  const auto wants = [&](std::string_view name) {
    return o.wanted.empty() || std::find(o.wanted.begin(), o.wanted.end(), name) != o.wanted.end();
  };
  std::vector<std::string_view> lists;
  for (const Figure& f : figures) {
    if (!wants(f.name)) continue;
    if (of_people(f) && vocabulary.level() != Level::all) {
      if (!o.wanted.empty()) throw md::Error("figure " + std::string(f.name) + ": people exist at level all only");
      continue;
    }
    if (std::find(lists.begin(), lists.end(), f.list) == lists.end()) lists.push_back(f.list);
  }
  const bool distance = wants("frechet_distance");
  if (distance && lists.empty()) throw md::Error("figure frechet_distance: expected a figure of a list beside it");

  const Dataset dataset(vocabulary, visibility_of(bitmaps), 1);
  const Scorer scorer(vocabulary, bitmaps);
  const auto score = [&](const std::vector<Sample>& samples, const std::vector<md::Image>& images) {
    std::vector<Score> scores(samples.size());
    ex.parallel_for(samples.size(), 1, [&](std::size_t begin, std::size_t end, int) {
      for (std::size_t i = begin; i < end; ++i) scores[i] = scorer.score(images[i % images.size()].rgb, samples[i]);
    });
    return report(scores, samples);
  };
  double seconds = 0;
  std::size_t drawn = 0;
  const auto draw = [&](std::string_view title, const std::vector<std::string>& captions, DrawingOptions drawing) {
    examples::Progress progress(std::string(title), captions.size());
    auto images = draw_samples<M>(ex, weights, tokenizer, vae, captions, drawing, [&](std::size_t n) { progress.update(n); });
    seconds += progress.seconds();
    drawn += images.size();
    return images;
  };

  DrawingOptions unguided = o.drawing;
  unguided.sampling.guidance = 1.0f;
  unguided.seed = o.drawing.seed + (std::uint64_t{1} << 40);  // noise of its own
  const auto blind = draw("without prompts", std::vector<std::string>(o.blind), unguided);
  seconds = 0;
  drawn = 0;

  Results out;
  EvaluationSheet sheet;
  std::vector<md::Image> all_true, all_reconstructed, all_generated;
  for (std::size_t l = 0; l < lists.size(); ++l) {
    const std::vector<Sample> prompts = list_of(dataset, lists[l], o.limit);
    if (prompts.empty()) continue;
    std::vector<Sample> samples;
    for (std::size_t k = 0; k < o.pictures_each; ++k) samples.insert(samples.end(), prompts.begin(), prompts.end());
    std::vector<std::string> captions;
    std::vector<md::Image> truth;
    for (const Sample& s : samples) {
      captions.push_back(s.caption);
      truth.emplace_back(picture_size, picture_size);
      truth.back().rgb = bitmaps.render(s.scene);
    }
    DrawingOptions drawing = o.drawing;
    drawing.seed += static_cast<std::uint64_t>(place_of(lists[l])) << 20;  // the same, whatever else is asked for
    const auto generated = draw(lists[l], captions, drawing), reconstructed = reconstructions(vae, truth);
    const Report value = score(samples, generated), upper = score(samples, reconstructed), lower = score(samples, blind);
    for (const Figure& f : figures) {
      if (f.list != lists[l] || !wants(f.name)) continue;
      const std::string name(f.name);
      out.emplace_back(name, value_of(value, f.statistic));
      out.emplace_back(name + "_vae", value_of(upper, f.statistic));
      out.emplace_back(name + "_blind", value_of(lower, f.statistic));
    }
    if (distance) {
      all_true.insert(all_true.end(), truth.begin(), truth.end());
      all_reconstructed.insert(all_reconstructed.end(), reconstructed.begin(), reconstructed.end());
      all_generated.insert(all_generated.end(), generated.begin(), generated.end());
    }
    std::vector<EvaluationSheet::Triple> triples;
    const std::size_t shown = std::min(o.sheet_pictures, prompts.size());
    for (std::size_t k = 0; k < shown; ++k) {
      const std::size_t i = k * prompts.size() / shown;
      triples.push_back({captions[i], {truth[i], reconstructed[i], generated[i]}});
    }
    sheet.add(lists[l], std::move(triples));
  }

  if (distance) {
    const Eigen::MatrixXd real = picture_features(vae, all_true);
    out.emplace_back("frechet_distance", frechet_distance(real, picture_features(vae, all_generated)));
    out.emplace_back("frechet_distance_vae", frechet_distance(real, picture_features(vae, all_reconstructed)));
  }
  if (wants("variety")) {
    constexpr std::size_t each = 6;
    std::vector<std::string> captions;
    for (const Sample& s : dataset.seen_singles(12)) captions.insert(captions.end(), each, s.caption);
    for (const Sample& s : dataset.seen_pairs(12)) captions.insert(captions.end(), each, s.caption);
    DrawingOptions drawing = o.drawing;
    drawing.seed += std::uint64_t{2} << 40;
    out.emplace_back("variety", variety_of(draw("seeds", captions, drawing), each));
  }
  if (wants("vae_psnr")) {
    const VaePictures pictures(1);
    out.emplace_back("vae_psnr", vae_psnr(vae, pictures, o.limit));
    const auto scenes = pictures.held_out();
    const std::size_t n = std::min(o.limit, scenes.size());
    double sum = 0;
    std::vector<float> x(picture_bytes);
    for (std::size_t k = 0; k < n; ++k) {
      pictures.render(scenes[k * scenes.size() / n], x.data());
      sum += psnr(mean_squared_error(to_bytes(x), blind[k % blind.size()].rgb));
    }
    out.emplace_back("vae_psnr_blind", sum / static_cast<double>(n));
  }
  if (drawn != 0) {
    out.emplace_back("pictures", static_cast<double>(drawn));
    out.emplace_back("seconds_per_picture", seconds / static_cast<double>(drawn));
  }
  if (!o.sheet.empty() && !lists.empty())
    md::write_png(o.sheet, sheet.image(),
                  std::vector<std::pair<std::string, std::string>>{{"seed", std::to_string(o.drawing.seed)},
                                                                   {"steps", std::to_string(o.drawing.sampling.steps)}});
  return out;
}

// Of a model's file. Throws md::Error also for a file that is not of model M.
template <md::ModelConfig M = demo>
Results evaluate(const std::filesystem::path& path, const EvaluationOptions& o) {
  const md::Executor ex(o.threads);
  const PackedModel<M> model(path, *o.drawing.packed);
  Autoencoder vae(ex, path, o.drawing.packed);
  const auto entries = read_names();
  const Vocabulary vocabulary(o.level.value_or(trained_level(model.metadata(), entries)), entries);
  EvaluationOptions used = o;
  used.drawing.sampling = md::sampling_of(model.metadata(), md::Sampling<M>::defaults, path.string());
  if (o.steps) used.drawing.sampling.steps = *o.steps;
  if (o.guidance) used.drawing.sampling.guidance = *o.guidance;
  return evaluate<M>(ex, model.weights(), model.tokenizer(), vae, vocabulary, load_bitmaps(vocabulary), used);
}

}  // namespace emoji
