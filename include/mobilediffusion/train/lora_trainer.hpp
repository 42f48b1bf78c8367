// SPDX-License-Identifier: Apache-2.0
// Finetuning of low-rank adapters on a handful of pictures (LoRA, Hu et al., arXiv 2106.09685); the model itself stays as it is.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../core/random.hpp"
#include "../diffusion/schedule.hpp"
#include "../io/lora.hpp"
#include "diffusion_trainer.hpp"

namespace mobilediffusion::train {

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
  using Text = TextEncoder<M.text>;
  using Net = Unet<M.unet>;
  using Weights = DiffusionWeights<M>;
  static constexpr std::size_t latents = Net::latent_floats, length = M.text.length;

 public:
  Lora lora;  // made or read for DiffusionWeights<M>
  std::size_t step_count = 0;

  // base: bound, not packed; read at every step. Throws Error for options that do not fit together and for an adapter that is
  // not of these weights.
  LoraTrainer(const Executor& ex, LoraTrainerOptions options, const Weights& base, Lora start)
      : lora(std::move(start)), ex_(ex), options_(checked(options)), merged_(base) {
    const auto leafs = reflect::leafs(merged_);
    std::size_t floats = 0;
    for (const LoraPair& p : lora.pairs()) {
      const auto at = std::find_if(leafs.begin(), leafs.end(),
                                   [&](const reflect::LeafView& leaf) { return leaf.path == p.path && leaf.type == p.type; });
      if (at == leafs.end()) throw Error("lora: the weights have no such matrix: " + p.path);
      adapted_.push_back({static_cast<std::size_t>(at - leafs.begin()), at->data(), nullptr});
      floats += p.type->storage;
      adapts_text_ = adapts_text_ || p.path.starts_with("text_encoder.");
    }
    matrices_ = AlignedBuffer(floats);
    float* next = matrices_.data();
    for (std::size_t i = 0; i < adapted_.size(); ++i) {
      adapted_[i].merged = *leafs[adapted_[i].leaf].slot = next;  // the others stay where they are
      next += lora.pairs()[i].type->storage;
    }
    const std::size_t passes = options_.batch / options_.micro_batch, threads = static_cast<std::size_t>(ex.threads()),
                      workers = threads <= passes ? threads : 1;
    for (std::size_t i = 0; i < workers; ++i)
      workers_.push_back(
          std::make_unique<Worker>(ex.threads() / static_cast<int>(workers), ex.precision(), stack_floats(options_.micro_batch)));
    sums_.resize(passes);
    for (std::size_t i = 0; i < passes; ++i) sums_[i] = AlignedBuffer(lora.memory().size());
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
    std::vector<double> losses(sums_.size());
    const auto some = [&](std::size_t begin, std::size_t end, Worker& worker) {
      for (std::size_t i = begin; i < end; ++i) {
        losses[i] = pass(pictures, ids, unconditional, i * options_.micro_batch, worker);
        project(worker, sums_[i].data());
      }
    };
    if (workers_.size() == 1) some(0, sums_.size(), *workers_.front());
    else
      ex_.parallel_for(sums_.size(), 1, [&](std::size_t begin, std::size_t end, int thread) {
        some(begin, end, *workers_[static_cast<std::size_t>(thread)]);
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
  // What one thread, or all of them together, compute a pass with. The gradients are those of all weights: backward passes know
  // nothing of adapters.
  struct Worker {
    Worker(int threads, Precision precision, std::size_t floats)
        : executor(threads, precision), memory(floats), gradient_memory(reflect::storage_floats<Weights>()), stack(memory) {
      reflect::bind(gradients, gradient_memory.data());
      leafs = reflect::leafs(gradients);
    }
    Executor executor;
    AlignedBuffer memory, gradient_memory;
    Stack stack;
    Weights gradients{};
    std::vector<reflect::LeafView> leafs;
  };

  static constexpr std::size_t stack_floats(std::size_t n) {
    return Text::stack_floats(Plan::training, n) + Net::stack_floats(Plan::training, n) +
           4 * Net::stack_floats(Plan::inference, n) + 4 * Text::stack_floats(Plan::inference, n) +
           8 * n * (latents + Text::context_floats) + (std::size_t{1} << 22);
  }

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
  void project(const Worker& worker, float* out) const {
    using kernels::Operand;
    const std::size_t rank = lora.rank();
    for (std::size_t i = 0; i < adapted_.size(); ++i) {
      const LoraPair& p = lora.pairs()[i];
      const std::size_t rows = p.type->rows, columns = p.type->columns;
      const Operand d = Operand::dense(worker.leafs[adapted_[i].leaf].data(), rows, columns, columns);
      float *da = out + (p.a - lora.memory().data()), *db = out + (p.b - lora.memory().data());
      kernels::matmul_nt(worker.executor, rows, rank, columns, d, Operand::dense(p.a, rank, columns, columns), db, rank, {});
      kernels::matmul_tn(worker.executor, rank, columns, rows, Operand::dense(p.b, rows, rank, rank), d, da, columns, {});
    }
    const float factor = lora.alpha() / static_cast<float>(rank);
    for (std::size_t i = 0; i < lora.memory().size(); ++i) out[i] *= factor;
  }

  // Forward and backward of samples first to first + micro_batch; the sum of their losses.
  double pass(std::span<const float* const> pictures, const std::int32_t* ids, const std::int32_t* unconditional,
              std::size_t first, Worker& worker) const {
    const std::size_t n = options_.micro_batch;
    Stack& stack = worker.stack;
    stack.release(0);
    stack.keep(true);
    worker.gradient_memory.zero();
    Context c{worker.executor, stack, n, false};
    std::vector<std::int32_t> tokens(n * length);
    float *z = stack.take(n * latents), *goal = stack.take(n * latents), *times = stack.take(n);
    const float shift = static_cast<float>(M.sampler.shift_percent) * 0.01f;
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint64_t stream = 0x100000000u + step_count * options_.batch + first + i;
      Random draw(options_.seed, stream);
      // Stratified over the batch: every step sees all of [0, 1).
      const float place = (static_cast<float>(first + i) + draw.uniform()) / static_cast<float>(options_.batch);
      const bool dropped = draw.uniform() < options_.caption_dropout, noise_alone = draw.uniform() < options_.noise_share;
      const float t = noise_alone ? 1.0f : shifted(place, shift);
      const NoiseLevel level = noise_level(M.sampler.schedule, t);
      times[i] = timestep(M.sampler.schedule, t);
      std::copy_n(dropped ? unconditional : ids + (first + i) * length, length,
                  tokens.begin() + static_cast<std::ptrdiff_t>(i * length));
      float* eps = goal + i * latents;  // becomes the target in place
      Random(options_.seed, stream).normals({eps, latents});
      const float* x = pictures[first + i];
      for (std::size_t j = 0; j < latents; ++j) {
        z[i * latents + j] = level.alpha * x[j] + level.sigma * eps[j];
        eps[j] = target(M.sampler.prediction, level, x[j], eps[j]);
      }
    }
    float* context = stack.take(n * Text::context_floats);
    float* pooled = M.text.pooled > 0 ? stack.take(n * Text::pooled_floats) : nullptr;
    float* y = stack.take(n * latents);
    typename Text::Saved text{};
    typename Net::Saved net{};
    Text::forward(c, merged_.text_encoder, tokens.data(), context, pooled, text);
    Net::forward(c, merged_.unet, z, times, context, pooled, y, net);
    stack.keep(false);

    const float unit = 2.0f / static_cast<float>(options_.batch * latents);
    double loss = 0;
    for (std::size_t i = 0; i < n * latents; ++i) {
      const float e = y[i] - goal[i];
      loss += static_cast<double>(e) * static_cast<double>(e);
      y[i] = unit * e;
    }
    float* d_context = stack.take_zeroed(n * Text::context_floats);
    float* d_pooled = M.text.pooled > 0 ? stack.take_zeroed(n * Text::pooled_floats) : nullptr;
    Net::backward(c, merged_.unet, worker.gradients.unet, net, y, nullptr, d_context, d_pooled);
    if (adapts_text_) Text::backward(c, merged_.text_encoder, worker.gradients.text_encoder, text, d_context, d_pooled);
    return loss / static_cast<double>(latents);
  }

  const Executor& ex_;
  LoraTrainerOptions options_;
  Weights merged_;
  std::vector<Adapted> adapted_;
  bool adapts_text_ = false;
  AlignedBuffer matrices_, first_, second_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<AlignedBuffer> sums_;  // of each pass; the first becomes that of all
};

}  // namespace mobilediffusion::train
