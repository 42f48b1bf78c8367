// SPDX-License-Identifier: Apache-2.0
// Finetuning of low-rank adapters on a handful of pictures (LoRA, Hu et al., arXiv 2106.09685); the model itself stays as it is.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../io/lora.hpp"
#include "diffusion_loss.hpp"
#include "passes.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

struct LoraTrainerOptions {
  OptimizerOptions optimizer{.schedule = {.peak = 1e-3f, .warmup_steps = 10}};  // there is no moving average
  std::size_t batch = 8, micro_batch = 4;  // a step has batch / micro_batch passes, each on threads of its own where they suffice
  float caption_dropout = 0.1f;            // share of samples that learn the unconditional model; 0 for one without guidance
  // Share of samples that are noise alone, all that a one-step model is ever asked; the others' times are a base model's.
  float noise_share = 0.0f;
  std::uint64_t seed = 1;
};

struct LoraReport {
  float loss = 0;
  StepReport step{};
};

// The loss is the diffusion model's: mean squared error of what the network puts out. With v-prediction at the time of noise
// alone that is the distance to the picture, so it serves a one-step model as well; no discriminator is needed where captions
// tell the pictures apart.
// Each pass goes forward and backward with merged matrices W + alpha / rank B A; of their gradient dW the adapters get
//   dB = alpha / rank dW A^T,  dA = alpha / rank B^T dW.
template <ModelConfig M>
class LoraTrainer {
  static_assert(ValidModel<M>::value);
  using Weights = DiffusionWeights<M>;

 public:
  Lora lora;  // made or read for DiffusionWeights<M>
  std::size_t step_count = 0;

  // base: bound, not packed; read at every step. Throws Error for options that do not fit together and for an adapter that is
  // not of these weights.
  LoraTrainer(std::reference_wrapper<const Executor> ex, LoraTrainerOptions options, const Weights& base, Lora start)
      : lora(std::move(start)),
        ex_(ex),
        options_(checked(options)),
        merged_(base),
        workers_(ex, options.batch / options.micro_batch, diffusion_stack_floats<M>(options.micro_batch)),
        gradients_(workers_.size()),
        sums_(options.batch / options.micro_batch) {
    const auto leafs = reflect::leafs(merged_);
    std::size_t floats = 0;
    for (const LoraPair& p : lora.pairs()) {
      const std::size_t leaf = mobilediffusion::detail::place_of(p, leafs);
      adapted_.push_back({leaf, leafs[leaf].data(), nullptr});
      floats += p.type->storage;
      adapts_text_ = adapts_text_ || p.path.starts_with("text_encoder.");
    }
    matrices_ = AlignedBuffer(floats);
    float* next = matrices_.data();
    for (std::size_t i = 0; i < adapted_.size(); ++i) {
      adapted_[i].merged = *leafs[adapted_[i].leaf].slot = next;  // the others stay where they are
      next += lora.pairs()[i].type->storage;
    }
    for (AlignedBuffer& sum : sums_) sum = AlignedBuffer(lora.memory().size());
    first_ = AlignedBuffer(lora.memory().size());
    second_ = AlignedBuffer(lora.memory().size());
    merge();
  }

  // The weights with the adapter merged: bound, not packed; valid until the next step.
  const Weights& weights() const { return merged_; }
  // The adapter's gradient, as its memory lies.
  const AlignedBuffer& gradient() const { return sums_.front(); }

  // pictures[i]: the latents of sample i, unit variance; ids [batch][length]; unconditional [length]: tokens of no caption.
  // Times, noise and dropped captions depend on the seed, the step and the place in the batch only. Throws Error, with nothing
  // changed, where the gradient is not finite.
  LoraReport step(std::span<const float* const> pictures, const std::int32_t* ids, const std::int32_t* unconditional) {
    LoraReport report{gradients(pictures, ids, unconditional), {}};
    const std::size_t n = lora.memory().size();
    const double norm2 = squared_norm(ex_, gradient().data(), n);
    if (!std::isfinite(norm2))
      throw Error("training: the gradient is not finite at step " + std::to_string(step_count + 1) + "; lower the learning rate");
    ++step_count;
    AdamWConfig adamw = options_.optimizer.adamw;
    adamw.learning_rate = learning_rate(options_.optimizer.schedule, step_count);
    adamw_step(ex_, adamw, step_count, lora.memory().data(), gradient().data(), first_.data(), second_.data(), n,
               clip_scale(norm2, options_.optimizer.clip), true);
    merge();
    report.step = {adamw.learning_rate, static_cast<float>(std::sqrt(norm2))};
    return report;
  }

  // The loss that the next step would see; its gradient goes to gradient().
  float gradients(std::span<const float* const> pictures, const std::int32_t* ids, const std::int32_t* unconditional) {
    if (pictures.size() != options_.batch) throw Error("training: expected as many latents as the batch has samples");
    merge();
    const DiffusionBatch batch{
        pictures, ids, unconditional, step_count, options_.seed, options_.caption_dropout, options_.noise_share};
    const std::size_t n = options_.micro_batch;
    std::vector<double> losses(sums_.size());
    workers_.run([&](std::size_t i, std::size_t worker, const Executor& ex, Stack& stack) {
      Gradients& g = gradients_[worker];
      g.memory.zero();
      const auto samples = diffusion_loss<M>(batch, i * n, n, ex, stack, merged_, g.weights, adapts_text_).samples;
      losses[i] = std::accumulate(samples.begin(), samples.end(), 0.0);
      project(ex, g.leafs, sums_[i].data());
    });
    double loss = losses.front();
    for (std::size_t i = 1; i < sums_.size(); ++i) {
      add(ex_, sums_.front().data(), sums_[i].data(), sums_[i].size());
      loss += losses[i];
    }
    return static_cast<float>(loss / static_cast<double>(options_.batch));
  }

 private:
  struct Adapted {
    std::size_t leaf;   // which one of the weights
    const float* base;  // the matrix as it was
    float* merged;
  };
  // Of one worker, and of all weights: backward passes know nothing of adapters.
  struct Gradients {
    Gradients() : memory(reflect::storage_floats<Weights>()) {
      reflect::bind(weights, memory.data());
      leafs = reflect::leafs(weights);
    }
    AlignedBuffer memory;
    Weights weights{};
    std::vector<reflect::LeafView> leafs;
  };

  static LoraTrainerOptions checked(LoraTrainerOptions o) {
    if (o.batch == 0 || o.micro_batch == 0 || o.batch % o.micro_batch != 0)
      throw Error("training: the batch must be a multiple of the micro-batch, both at least 1");
    for (const float share : {o.caption_dropout, o.noise_share})
      if (!(share >= 0.0f && share <= 1.0f)) throw Error("training: caption_dropout and noise_share are shares, from 0 to 1");
    return o;
  }

  void merge() {
    for (std::size_t i = 0; i < adapted_.size(); ++i) {
      const LoraPair& p = lora.pairs()[i];
      std::copy_n(adapted_[i].base, p.type->count, adapted_[i].merged);
      lora.add_to(p, 1.0f, adapted_[i].merged);
    }
  }

  // From the gradients of the matrices to those of A and B.
  void project(const Executor& ex, std::span<const reflect::LeafView> leafs, float* out) const {
    using kernels::Operand;
    for (std::size_t i = 0; i < adapted_.size(); ++i) {
      const LoraPair& p = lora.pairs()[i];
      const std::size_t rows = p.type->rows, columns = p.type->columns, rank = p.rank;
      const Operand d = Operand::dense(leafs[adapted_[i].leaf].data(), rows, columns, columns);
      float *da = out + (p.a - lora.memory().data()), *db = out + (p.b - lora.memory().data());
      kernels::matmul_nt(ex, rows, rank, columns, d, Operand::dense(p.a, rank, columns, columns), db, rank, {});
      kernels::matmul_tn(ex, rank, columns, rows, Operand::dense(p.b, rows, rank, rank), d, da, columns, {});
      for (std::size_t k = 0; k < rank * columns; ++k) da[k] *= p.factor();
      for (std::size_t k = 0; k < rows * rank; ++k) db[k] *= p.factor();
    }
  }

  const Executor& ex_;
  LoraTrainerOptions options_;
  Weights merged_;
  std::vector<Adapted> adapted_;
  bool adapts_text_ = false;
  AlignedBuffer matrices_, first_, second_;
  Workers workers_;
  std::vector<Gradients> gradients_;  // of each worker
  std::vector<AlignedBuffer> sums_;   // of each pass; the first becomes that of all
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
