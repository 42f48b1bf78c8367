// SPDX-License-Identifier: Apache-2.0
// Captions with their scenes: what is trained on, what is held out and what is evaluated. No picture is drawn here.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mobilediffusion/core/error.hpp"
#include "mobilediffusion/core/random.hpp"
#include "picture.hpp"
#include "vocabulary.hpp"

namespace emoji {

enum class Task { single, count, pair, size };

struct Sample {
  std::string caption;
  Scene scene;
  Task task = Task::single;
};

// Sides of the boxes, in pixels.
inline constexpr int single_size = 108, pair_size = 60, count_size = 58, big_size = 84, small_size = 38;

// Shares of the tasks among training samples; they need not sum to one.
struct Mixture {
  float single, count, pair, size;
  float people = 0.40f;  // of the singles at Level::all
};
inline constexpr Mixture singles_mixture{.single = 0.60f, .count = 0.15f, .pair = 0.15f, .size = 0.10f};
inline constexpr Mixture scenes_mixture{.single = 0.20f, .count = 0.15f, .pair = 0.45f, .size = 0.20f};

namespace layout {

inline Placement single(std::size_t i) { return {i, 10, 10, single_size}; }

// n = 1: as a single; 2: side by side; 3: one above two; 4: two by two.
inline std::vector<Placement> count(std::size_t i, std::size_t n) {
  const int s = count_size;
  switch (n) {
    case 1:
      return {single(i)};
    case 2:
      return {{i, 4, 35, s}, {i, 66, 35, s}};
    case 3:
      return {{i, 35, 4, s}, {i, 4, 66, s}, {i, 66, 66, s}};
    case 4:
      return {{i, 4, 4, s}, {i, 66, 4, s}, {i, 4, 66, s}, {i, 66, 66, s}};
    default:
      throw mobilediffusion::Error("count: expected 1..4, found " + std::to_string(n));
  }
}

inline std::vector<Placement> left_of(std::size_t a, std::size_t b) { return {{a, 2, 34, pair_size}, {b, 66, 34, pair_size}}; }
inline std::vector<Placement> above(std::size_t a, std::size_t b) { return {{a, 34, 2, pair_size}, {b, 34, 66, pair_size}}; }
// The first named stands left; both stand on one line.
inline std::vector<Placement> sizes(std::size_t a, std::size_t b, bool a_is_big) {
  const int bottom = 106;
  if (a_is_big) return {{a, 2, bottom - big_size, big_size}, {b, 88, bottom - small_size, small_size}};
  return {{a, 2, bottom - small_size, small_size}, {b, 42, bottom - big_size, big_size}};
}

}  // namespace layout

// Which (concept, background) pairs may be used: at least a third of the ink stands out. [concept][background].
using Visibility = std::vector<std::array<bool, backgrounds.size()>>;
inline Visibility visibility_of(const Bitmaps& bitmaps, float least_share = 0.33f) {
  Visibility out(bitmaps.size());
  for (std::size_t i = 0; i < bitmaps.size(); ++i)
    for (std::size_t b = 0; b < backgrounds.size(); ++b) out[i][b] = visible_share(bitmaps[i], backgrounds[b]) >= least_share;
  return out;
}

// All captions and scenes of one vocabulary. Splits depend on names only; the seed chooses training samples.
//
// Training never shows
//  - a concept on its held-out background (one of the usable ones other than white), in any kind of scene;
//  - about one in six (concept, count) combinations;
//  - about one in ten unordered pairs of concepts, in any order, position or size;
//  - people of the three held-out kinds of people.hpp.
// A held-out list breaks exactly one of these rules; everything else in it is what training may show.
class Dataset {
 public:
  Dataset(const Vocabulary& vocabulary, Visibility visible, std::uint64_t seed)
      : vocabulary_(vocabulary), visible_(std::move(visible)), seed_(seed) {
    if (visible_.size() != vocabulary.size())
      throw mobilediffusion::Error("visibility: expected one row for each of " + std::to_string(vocabulary.size()) +
                                   " concepts, found " + std::to_string(visible_.size()));
    heldout_.resize(vocabulary.size(), none);
    for (std::size_t i = 0; i < vocabulary.size(); ++i) {
      std::uint64_t best = 0;  // the usable background of the greatest hash
      std::size_t usable = 0;
      for (std::size_t b = 0; b < backgrounds.size(); ++b) {
        if (!visible_[i][b]) continue;
        ++usable;
        if (b == white_background) continue;
        const std::uint64_t h = stable_hash({"background", vocabulary[i].name, backgrounds[b].name});
        if (heldout_[i] == none || h > best) {
          heldout_[i] = b;
          best = h;
        }
      }
      if (usable < 2)
        throw mobilediffusion::Error("emoji \"" + vocabulary[i].name + "\": expected two usable backgrounds, found " +
                                     std::to_string(usable));
      if (!vocabulary[i].person) {
        for (std::size_t n = 2; n <= 4; ++n)
          if (!vocabulary[i].phrase.plural.empty() && !heldout_count(i, n)) counts_.push_back({i, n});
        if (!vocabulary[i].phrase.plural.empty()) countable_.push_back(i);
      } else if (split_of(*vocabulary[i].person) == PersonSplit::training) {
        people_.push_back(i);
      }
    }
  }

  Dataset(Vocabulary&&, Visibility, std::uint64_t) = delete;  // it would outlive what it refers to

  const Vocabulary& vocabulary() const { return vocabulary_; }

  bool visible(std::size_t i, std::size_t background) const { return visible_[i][background]; }
  std::size_t heldout_background(std::size_t i) const { return heldout_[i]; }
  bool heldout_object(std::size_t i, std::size_t background) const { return heldout_[i] == background; }
  bool heldout_count(std::size_t i, std::size_t n) const {
    return stable_hash({"count", vocabulary_[i].name, std::to_string(n)}) % 6 == 0;
  }
  bool heldout_pair(std::size_t a, std::size_t b) const {
    const std::string_view x = vocabulary_[a].name, y = vocabulary_[b].name;
    return stable_hash({"pair", std::min(x, y), std::max(x, y)}) % 10 == 0;
  }
  // Concept i is trained on at all; always true but for held-out people.
  bool in_training(std::size_t i) const {
    return !vocabulary_[i].person || split_of(*vocabulary_[i].person) == PersonSplit::training;
  }
  bool training_background(std::size_t i, std::size_t background) const {
    return visible_[i][background] && heldout_[i] != background;
  }

  // Whether training never shows this sample, for any of the reasons above or because an object would not stand out.
  bool held_out(const Sample& s) const {
    const auto& o = s.scene.objects;
    const bool fits = std::all_of(o.begin(), o.end(), [&](const Placement& p) {
      return in_training(p.concept_id) && training_background(p.concept_id, s.scene.background);
    });
    if (!fits) return true;
    if (s.task == Task::count) return heldout_count(o.front().concept_id, o.size());
    return (s.task == Task::pair || s.task == Task::size) && heldout_pair(o.front().concept_id, o.back().concept_id);
  }

  // Captions with their scenes. plain: say nothing of the background, which must be white.
  Sample single(std::size_t i, std::size_t background, bool plain = false) const {
    if (plain && background != white_background)
      throw mobilediffusion::Error("caption: expected white without a colour, found " +
                                   std::string(backgrounds[background].name));
    return {
        vocabulary_[i].phrase.with_article() + (plain ? "" : on(background)), {{layout::single(i)}, background}, Task::single};
  }
  Sample count(std::size_t i, std::size_t n, std::size_t background) const {
    static constexpr std::array<std::string_view, 3> words{"two", "three", "four"};
    if (n < 2 || n > 4) throw mobilediffusion::Error("count: expected 2..4, found " + std::to_string(n));
    return {std::string(words[n - 2]) + " " + vocabulary_[i].phrase.plural + on(background),
            {layout::count(i, n), background},
            Task::count};
  }
  Sample left_of(std::size_t a, std::size_t b, std::size_t background) const {
    return {the(a) + " to the left of " + the(b) + on(background), {layout::left_of(a, b), background}, Task::pair};
  }
  Sample above(std::size_t a, std::size_t b, std::size_t background) const {
    return {the(a) + " above " + the(b) + on(background), {layout::above(a, b), background}, Task::pair};
  }
  Sample sizes(std::size_t a, std::size_t b, bool a_is_big, std::size_t background) const {
    const std::string& x = vocabulary_[a].phrase.noun;
    const std::string& y = vocabulary_[b].phrase.noun;
    return {(a_is_big ? "a big " + x + " and a small " + y : "a small " + x + " and a big " + y) + on(background),
            {layout::sizes(a, b, a_is_big), background},
            Task::size};
  }

  // Training sample number index, the same for the same seed. Any order, any thread.
  Sample training_sample(std::uint64_t index, const Mixture& m = singles_mixture) const {
    mobilediffusion::Random random = stream(0x747261696eu, index);
    const float at = random.uniform() * (m.single + m.count + m.pair + m.size);
    if (at < m.single) {
      const bool person = random.uniform() < m.people && !people_.empty();
      const std::size_t i =
          person ? people_[random.below(size32(people_))] : random.below(static_cast<std::uint32_t>(vocabulary_.things()));
      const std::size_t b = background(random, {i});
      return single(i, b, b == white_background && random.below(2) == 0);
    }
    if (at < m.single + m.count && !counts_.empty()) {
      const auto [i, n] = counts_[random.below(size32(counts_))];
      return count(i, n, background(random, {i}));
    }
    return two_objects(random, at >= m.single + m.count + m.pair, false);
  }

  // Every single that training may show (people included), plain captions after the coloured one: for caches.
  std::vector<Sample> training_singles() const {
    std::vector<Sample> out;
    for (std::size_t i = 0; i < vocabulary_.size(); ++i)
      for (std::size_t b = 0; b < backgrounds.size() && in_training(i); ++b) {
        if (!training_background(i, b)) continue;
        out.push_back(single(i, b));
        if (b == white_background) out.push_back(single(i, b, true));
      }
    return out;
  }
  std::vector<Sample> training_counts() const {
    std::vector<Sample> out;
    for (const auto& [i, n] : counts_)
      for (std::size_t b = 0; b < backgrounds.size(); ++b)
        if (training_background(i, b)) out.push_back(count(i, n, b));
    return out;
  }

  // For the autoencoder: free sizes and places, one object (60 %) or two to four; every concept and background.
  Scene autoencoder_scene(std::uint64_t index) const {
    mobilediffusion::Random random = stream(0x766165u, index);
    Scene scene;
    scene.background = random.below(static_cast<std::uint32_t>(backgrounds.size()));
    const std::size_t n = random.uniform() < 0.6f ? 1 : 2 + random.below(3);
    for (std::size_t k = 0; k < n; ++k) {
      const int size = n == 1 ? 56 + static_cast<int>(random.below(73)) : 34 + static_cast<int>(random.below(31));
      const auto room = static_cast<std::uint32_t>((n == 1 ? 128 : 64) - size + 1);
      const int x = static_cast<int>(random.below(room)), y = static_cast<int>(random.below(room));
      const int column = n == 1 ? 0 : static_cast<int>(k % 2) * 64, row = n == 1 ? 0 : static_cast<int>(k / 2) * 64;
      scene.objects.push_back({random.below(static_cast<std::uint32_t>(vocabulary_.size())), x + column, y + row, size});
    }
    return scene;
  }

  // Evaluation lists: the same for every seed; fewer than limit only where the vocabulary has no more.
  std::vector<Sample> seen_singles(std::size_t limit = 200) const {
    return evenly(limit, things_with([](std::size_t) { return true; }), [&](std::size_t i) {
      mobilediffusion::Random random = evaluation(1, i);
      return single(i, background(random, {i}));
    });
  }
  std::vector<Sample> heldout_singles(std::size_t limit = 200) const {
    return evenly(limit, things_with([&](std::size_t i) { return heldout_[i] != none; }),
                  [&](std::size_t i) { return single(i, heldout_[i]); });
  }
  std::vector<Sample> seen_counts(std::size_t limit = 200) const { return counts(limit, false); }
  std::vector<Sample> heldout_counts(std::size_t limit = 200) const { return counts(limit, true); }
  std::vector<Sample> seen_pairs(std::size_t limit = 200) const { return two_objects(limit, false, false); }
  std::vector<Sample> heldout_pairs(std::size_t limit = 200) const { return two_objects(limit, false, true); }
  std::vector<Sample> heldout_sizes(std::size_t limit = 200) const { return two_objects(limit, true, true); }
  // People of one split (Level::all only), on a background used in training.
  std::vector<Sample> people(PersonSplit split, std::size_t limit = 200) const {
    std::vector<std::size_t> ids;
    for (std::size_t i = vocabulary_.things(); i < vocabulary_.size(); ++i)
      if (split_of(*vocabulary_[i].person) == split) ids.push_back(i);
    return evenly(limit, ids, [&](std::size_t i) {
      mobilediffusion::Random random = evaluation(5, i);
      return single(i, background(random, {i}));
    });
  }

  // Captions to train a tokenizer on, unique and sorted: all singles and counts of training, and the two-object captions
  // among the first `samples` training samples.
  std::vector<std::string> captions(std::uint64_t samples = 20000) const {
    std::set<std::string> out;
    for (const Sample& s : training_singles()) out.insert(s.caption);
    for (const Sample& s : training_counts()) out.insert(s.caption);
    for (std::uint64_t k = 0; k < samples; ++k) out.insert(training_sample(k).caption);
    return {out.begin(), out.end()};
  }

  // Twelve prompts to look at, of every task, whether trained on or held out. Only concepts of the smallest level.
  std::vector<Sample> gallery() const {
    const auto id = [&](std::string_view name) { return vocabulary_.find(name); };
    const auto colour = [&](std::string_view name) {
      return static_cast<std::size_t>(
          std::find_if(backgrounds.begin(), backgrounds.end(), [&](const Background& b) { return b.name == name; }) -
          backgrounds.begin());
    };
    return {single(id("fox"), colour("light blue")),
            single(id("strawberry"), white_background, true),
            single(id("owl"), colour("teal")),
            single(id("tropical fish"), colour("purple")),
            single(id("hamburger"), colour("green")),
            single(id("cactus"), colour("pink")),
            count(id("red apple"), 2, colour("yellow")),
            count(id("penguin"), 3, colour("light blue")),
            count(id("cupcake"), 4, colour("gray")),
            left_of(id("cat"), id("mushroom"), colour("green")),
            above(id("butterfly"), id("sunflower"), colour("light blue")),
            sizes(id("elephant"), id("mouse"), true, colour("green"))};
  }

  static constexpr std::size_t none = static_cast<std::size_t>(-1);

 private:
  std::string the(std::size_t i) const { return vocabulary_[i].phrase.with_article(); }
  static std::string on(std::size_t background) {
    const std::string name(backgrounds[background].name);
    return " on " + indefinite_article(name) + " " + name + " background";
  }
  template <class T>
  static std::uint32_t size32(const T& list) {
    return static_cast<std::uint32_t>(list.size());
  }

  mobilediffusion::Random stream(std::uint64_t use, std::uint64_t index) const {
    return {seed_ ^ (use * 0x9e3779b97f4a7c15u), index};
  }
  // Independent of the seed: by the concept's name, so that lists stay comparable between levels.
  mobilediffusion::Random evaluation(std::uint64_t list, std::size_t i) const {
    return {list, stable_hash({"evaluation", vocabulary_[i].name})};
  }

  // A background that training uses for all of the objects, or none.
  std::size_t background(mobilediffusion::Random& random, std::initializer_list<std::size_t> objects) const {
    std::array<std::size_t, backgrounds.size()> fit{};
    std::size_t n = 0;
    for (std::size_t b = 0; b < backgrounds.size(); ++b)
      if (std::all_of(objects.begin(), objects.end(), [&](std::size_t i) { return training_background(i, b); })) fit[n++] = b;
    return n == 0 ? none : fit[random.below(static_cast<std::uint32_t>(n))];
  }

  // Two different countable things of the wanted side of the split, on a background that suits both.
  Sample two_objects(mobilediffusion::Random& random, bool by_size, bool heldout) const {
    for (int attempt = 0; attempt < 10000 && countable_.size() > 1; ++attempt) {
      const std::size_t a = countable_[random.below(size32(countable_))], b = countable_[random.below(size32(countable_))];
      const bool first = random.below(2) == 0;
      if (a == b || heldout_pair(a, b) != heldout) continue;
      const std::size_t colour = background(random, {a, b});
      if (colour == none) continue;
      if (by_size) return sizes(a, b, first, colour);
      return first ? left_of(a, b, colour) : above(a, b, colour);
    }
    throw mobilediffusion::Error("dataset: expected two concepts to pair, found none after 10000 draws");
  }
  std::vector<Sample> two_objects(std::size_t limit, bool by_size, bool heldout) const {
    mobilediffusion::Random random{by_size ? 3u : 2u, heldout ? 1u : 0u};
    std::vector<Sample> out;
    std::set<std::string> seen;
    while (out.size() < limit) {
      Sample s = two_objects(random, by_size, heldout);
      if (seen.insert(s.caption).second) out.push_back(std::move(s));
    }
    return out;
  }

  std::vector<Sample> counts(std::size_t limit, bool heldout) const {
    std::vector<std::size_t> cells;  // concept * 8 + count
    for (const std::size_t i : countable_)
      for (std::size_t n = 2; n <= 4; ++n)
        if (heldout_count(i, n) == heldout) cells.push_back(i * 8 + n);
    // A short list of cells goes through several backgrounds, so that a share has enough pictures behind it.
    std::vector<Sample> out;
    for (std::size_t round = 0; round < backgrounds.size() && out.size() < limit && !cells.empty(); ++round)
      for (Sample& s : evenly(limit - out.size(), cells, [&](std::size_t cell) {
             const std::size_t i = cell / 8, n = cell % 8;
             const std::size_t first = stable_hash({"evaluation", vocabulary_[i].name, std::to_string(n)}) % backgrounds.size();
             std::size_t passed = 0, b = none;
             for (std::size_t k = 0; k < backgrounds.size() && b == none; ++k) {
               const std::size_t at = (first + k) % backgrounds.size();
               if (training_background(i, at) && passed++ == round) b = at;
             }
             return b == none ? Sample{} : count(i, n, b);
           }))
        if (!s.caption.empty()) out.push_back(std::move(s));
    return out;
  }

  template <class Predicate>
  std::vector<std::size_t> things_with(Predicate&& predicate) const {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < vocabulary_.things(); ++i)
      if (predicate(i)) out.push_back(i);
    return out;
  }
  // At most limit of the ids, evenly spread, made into samples.
  template <class Make>
  static std::vector<Sample> evenly(std::size_t limit, const std::vector<std::size_t>& ids, Make&& make) {
    std::vector<Sample> out;
    const std::size_t n = std::min(limit, ids.size());
    for (std::size_t k = 0; k < n; ++k) out.push_back(make(ids[k * ids.size() / n]));
    return out;
  }

  const Vocabulary& vocabulary_;  // outlives the dataset
  Visibility visible_;
  std::uint64_t seed_;
  std::vector<std::size_t> heldout_;                         // by concept
  std::vector<std::pair<std::size_t, std::size_t>> counts_;  // (concept, count) of training
  std::vector<std::size_t> countable_, people_;              // of training
};

}  // namespace emoji
