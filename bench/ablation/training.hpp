// SPDX-License-Identifier: Apache-2.0
// The variants' quality: each one's demo-scale UNet is trained with the same data, steps and seeds, and measured on the same
// held-out pairs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "mobilediffusion/reflect/fingerprint.hpp"
#include "variants.hpp"

namespace ablation {

// The first variant with the same UNet at demo scale: one training stands for both. Past the end: there is none at that scale.
constexpr std::size_t trained_as(std::size_t i) {
  const auto fingerprint = [](std::size_t k) { return md::reflect::fingerprint(*variants[k].unet.demo); };
  if (!variants[i].unet.demo) return variants.size();
  std::size_t j = 0;
  while (!variants[j].unet.demo || fingerprint(j) != fingerprint(i)) ++j;
  return j;
}

struct TrainingPlan {
  std::filesystem::path out;    // for every seed and variant a folder: log, checkpoint, pictures, results
  std::filesystem::path model;  // whose autoencoder and tokenizer are used as they are
  std::vector<std::uint64_t> seeds{1};
  std::vector<std::size_t> rows{};  // which variants to train; empty: all
  std::size_t steps = 750, batch = 32, concepts = 40, pictures = 80;
  float rate = 1e-3f;  // the learning rate's peak
  int threads = 0;
};

// What one training ended in. Figures are those of emoji::figures, on the concepts of the plan.
struct Outcome {
  double validation_loss;  // of the averaged weights
  std::vector<std::pair<std::string, double>> figures;
  double figure(const std::string& name) const {
    for (const auto& [key, value] : figures)
      if (key == name) return value;
    throw md::Error("results: expected a figure " + name + ", found none");
  }
};

struct Trained {
  std::size_t parameters = 0, macs = 0;  // of the UNet at demo scale; 0: not at this scale
  std::vector<Outcome> outcomes{};       // by seed; empty: not trained
};

// One entry for each variant. What an earlier call finished is read from plan.out, and what it began goes on there. Throws
// md::Error where the folder holds results of another plan.
std::vector<Trained> train_variants(const TrainingPlan& plan);

}  // namespace ablation
