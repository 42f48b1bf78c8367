// SPDX-License-Identifier: Apache-2.0
// What all variants share: the concepts, their latents and captions, the autoencoder, and the pairs that they are measured on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "emoji/diffusion_training.hpp"
#include "emoji/evaluation.hpp"
#include "training.hpp"

namespace ablation {

struct Data {
  Data(const TrainingPlan& plan, std::uint64_t seed)
      : executor(plan.threads, md::Precision::bf16),
        tokenizer(md::read_tokenizer(md::SafetensorsFile(plan.model), emoji::demo.text.vocabulary)),
        vae(executor, plan.model),
        vocabulary(emoji::Vocabulary(emoji::Level::animals_and_foods, emoji::read_names()).some(plan.concepts)),
        bitmaps(emoji::load_bitmaps(vocabulary)),
        dataset(vocabulary, emoji::visibility_of(bitmaps), seed),
        cache(executor, dataset, bitmaps, tokenizer, vae, 0) {
    std::vector<float> picture(emoji::picture_bytes), z(emoji::Autoencoder::latents);
    for (const emoji::Sample& s : dataset.heldout_singles(vocabulary.size())) {
      bitmaps.render(s.scene, std::span<float>(picture));
      vae.encode(picture.data(), 1, z.data());
      heldout_latents.push_back(z);
      heldout_ids.push_back(tokenizer.encode(s.caption, emoji::demo.text.length));
    }
  }
  Data(const Data&) = delete;  // its parts refer to each other
  Data& operator=(const Data&) = delete;

  md::Executor executor;
  md::Tokenizer tokenizer;
  emoji::Autoencoder vae;
  emoji::Vocabulary vocabulary;
  emoji::Bitmaps bitmaps;
  emoji::Dataset dataset;
  emoji::LatentCache cache;
  // Each concept on the background that it is never trained with.
  std::vector<std::vector<float>> heldout_latents;
  std::vector<std::vector<std::int32_t>> heldout_ids;
};

// Trains variant I in this folder, or goes on with it, and measures it. Instantiated in a translation unit for each variant.
template <std::size_t I>
Outcome train(const TrainingPlan& plan, std::uint64_t seed, Data& data, const std::filesystem::path& folder,
              const md::Metadata& identity);

}  // namespace ablation
