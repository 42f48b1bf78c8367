// SPDX-License-Identifier: Apache-2.0
// Progressive distillation (Salimans and Ho, arXiv 2202.00512): a student learns to do in one step what its teacher does in two;
// then it is the teacher of the next round. The first teacher is guided, its student needs no guidance (Meng et al., arXiv
// 2210.03142, distil guidance first; here the first halving does both, for one strength of it).
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../core/random.hpp"
#include "../diffusion/sampler.hpp"
#include "../layers/packed_weights.hpp"
#include "../models/text_encoder.hpp"
#include "../models/unet.hpp"
#include "passes.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

struct DistillationOptions {
  OptimizerOptions optimizer{.adamw = {.weight_decay = 0.0f}, .schedule = {.peak = 1e-4f, .warmup_steps = 100}};  // of a round
  std::size_t batch = 32, micro_batch = 16;  // a step has batch / micro_batch passes (Passes says how they use threads)
  std::size_t sampling_steps = 16;           // of the first student; its teacher takes twice as many
  float guidance = 1.0f;                     // of the first teacher; at most 1: none
  Format teacher_format = Format::fp32;      // what its weights are kept and multiplied in
  std::uint64_t seed = 1;
};

struct DistillationReport {
  float loss = 0;           // max(|x - x~|^2, |eps - eps~|^2), mean over values; x~, eps~: what the teacher's two steps come to
  float picture_error = 0;  // |x - x~|^2, mean over values
  StepReport step{};
};

// The text encoder stays as it is, for teacher and student.
template <ModelConfig M>
class DistillationTrainer {
  static_assert(ValidModel<M>::value);
  using Text = TextEncoder<M.text>;
  using Net = Unet<M.unet>;
  using Weights = typename Net::Weights;
  static constexpr std::size_t latents = Net::latent_floats, length = M.text.length;

 public:
  TrainState<Weights> state;  // the student; its average is what is deployed and what teaches next

  // text, teacher: bound, not packed; text is read at every step, the teacher is copied. Throws Error for options that do not fit
  // together.
  DistillationTrainer(std::reference_wrapper<const Executor> ex, DistillationOptions options, const typename Text::Weights& text,
                      const Weights& teacher)
      : ex_(ex),
        options_(checked(options)),
        text_(text),
        passes_(ex, options.batch / options.micro_batch, stack_floats(options.micro_batch)),
        teacher_blob_(TrainState<Weights>::floats),
        packed_(options.teacher_format),
        sampling_steps_(options.sampling_steps) {
    reflect::bind(teacher_, teacher_blob_.data());
    copy(teacher, teacher_);
    begin();
  }

  std::size_t round() const { return round_; }                    // 0: the teacher is the one that was given
  std::size_t sampling_steps() const { return sampling_steps_; }  // that the student learns to take

  // pictures[i]: the latents of sample i, unit variance; ids [batch][length]; unconditional [length]: tokens of no caption, which
  // a guided teacher leads away from. Times and noise depend on the seed, the round, the step and the place in the batch only.
  DistillationReport step(std::span<const float* const> pictures, const std::int32_t* ids, const std::int32_t* unconditional) {
    DistillationReport report = gradients(pictures, ids, unconditional);
    report.step = state.update(ex_, options_.optimizer);
    return report;
  }

  // The loss that the next step would see and its gradient in state.gradients; changes nothing else.
  DistillationReport gradients(std::span<const float* const> pictures, const std::int32_t* ids,
                               const std::int32_t* unconditional) {
    if (pictures.size() != options_.batch) throw Error("training: expected as many latents as the batch has samples");
    std::vector<Losses> losses(options_.batch / options_.micro_batch);
    passes_.run(state, [&](std::size_t i, const Executor& ex, Stack& stack, Weights& gradients) {
      losses[i] = pass(pictures, ids, unconditional, i * options_.micro_batch, ex, stack, gradients);
    });
    Losses total;
    for (const Losses& l : losses) {
      total.loss += l.loss;
      total.picture += l.picture;
    }
    const double samples = static_cast<double>(options_.batch);
    return {static_cast<float>(total.loss / samples), static_cast<float>(total.picture / samples), {}};
  }

  // The next round: the student's average teaches, unguided, a student that starts as its copy and takes half the steps; the
  // optimizer and its schedule begin anew. Throws Error where the number of steps is odd.
  void halve() {
    if (sampling_steps_ % 2 != 0)
      throw Error("distillation: expected an even number of steps to halve, found " + std::to_string(sampling_steps_));
    copy(state.average, teacher_);
    sampling_steps_ /= 2;
    ++round_;
    begin();
  }

  // Student, teacher and round, in one file; the training goes on from it bit for bit.
  void save(const std::filesystem::path& path, Metadata metadata = {}) const {
    std::vector<TensorToWrite> tensors;
    state.list(tensors, "student.");
    list_weights(tensors, "teacher.", teacher_, Dtype::f32);
    metadata["step"] = std::to_string(state.step);
    metadata["round"] = std::to_string(round_);
    metadata["sampling_steps"] = std::to_string(sampling_steps_);
    write_safetensors(path, tensors, metadata);
  }
  // Throws Error for a file of another architecture, with numbers that are not finite or of a training that began with another
  // number of steps, with everything as it was.
  Metadata load(const std::filesystem::path& path) {
    const SafetensorsFile file(path);
    state.check(file, "student.");
    check_weights<Weights>(file, "teacher.");
    const std::size_t step = number_of(file, "step"), round = number_of(file, "round"),
                      sampling_steps = number_of(file, "sampling_steps");
    if (sampling_steps == 0 || round >= 64 || sampling_steps != options_.sampling_steps >> round ||
        sampling_steps << round != options_.sampling_steps)
      throw Error("file " + file.name() + ": expected a training that began with " + std::to_string(options_.sampling_steps) +
                  " steps, found " + std::to_string(sampling_steps) + " in round " + std::to_string(round));
    AlignedBuffer blob(TrainState<Weights>::floats);
    Weights teacher{};
    reflect::bind(teacher, blob.data());
    read_weights(file, "teacher.", teacher);
    state.read(file, "student.");
    state.step = step;
    round_ = round;
    sampling_steps_ = sampling_steps;
    copy(teacher, teacher_);
    pack();
    return file.metadata();
  }

 private:
  static constexpr std::size_t stack_floats(std::size_t n) {
    const std::size_t rows = 2 * n;  // of a guided teacher
    Planned p{Plan::inference}, teacher{Plan::inference};
    p.take(n * latents).take(n * latents).take(rows).take(rows * Text::context_floats).take(rows * Text::pooled_floats);
    teacher.part(Text::stack_floats(Plan::inference, rows)).take(rows * latents).take(rows * latents);
    p.part(teacher.part(Net::stack_floats(Plan::inference, rows)).peak).take(n * latents);
    p.plan = Plan::training;
    p.part(Net::stack_floats(Plan::training, n));
    p.plan = Plan::inference;
    return p.take(n * Text::context_floats).part(Net::backward_floats(n)).peak;
  }

  static DistillationOptions checked(DistillationOptions options) {
    if (options.batch == 0 || options.micro_batch == 0 || options.batch % options.micro_batch != 0)
      throw Error("training: the batch must be a multiple of the micro-batch, both at least 1");
    if (options.sampling_steps == 0) throw Error("distillation: the student must take at least 1 step");
    if (!(options.guidance >= 0.0f) || !std::isfinite(options.guidance))
      throw Error("distillation: guidance: expected a number of at least 0, found " + std::to_string(options.guidance));
    return options;
  }

  static void copy(const Weights& from, Weights& to) {
    const auto a = reflect::leafs(from), b = reflect::leafs(to);
    for (std::size_t i = 0; i < a.size(); ++i) std::copy_n(a[i].data(), a[i].type->count, b[i].data());
  }
  void pack() {
    packed_.copy(teacher_);
    packed_.finish();
  }
  void begin() {
    copy(teacher_, state.weights);
    state.restart();
    pack();
  }

  struct Losses {  // of one pass
    double loss = 0, picture = 0;
  };

  // Forward and backward of samples first to first + micro_batch.
  Losses pass(std::span<const float* const> pictures, const std::int32_t* ids, const std::int32_t* unconditional,
              std::size_t first, const Executor& ex, Stack& stack, Weights& gradients) const {
    const std::size_t n = options_.micro_batch;
    const bool guided = round_ == 0 && is_guided(options_.guidance);
    const std::size_t rows = guided ? 2 * n : n;  // of the teacher's passes
    const float shift = static_cast<float>(M.sampler.shift_percent) * 0.01f;
    std::vector<std::array<float, 3>> times(n);
    std::vector<std::array<NoiseLevel, 3>> levels(n);  // where the teacher's first step begins, its second, and where that ends
    const std::uint64_t stream =
        (std::uint64_t{3} << 40) + (static_cast<std::uint64_t>(round_) << 34) + state.step * options_.batch;
    for (std::size_t i = 0; i < n; ++i) {
      Random draw(options_.seed, stream + first + i);
      // Stratified over the batch: every step sees all of the student's times that fit in it.
      const float place = (static_cast<float>(first + i) + draw.uniform()) / static_cast<float>(options_.batch);
      const auto at = std::min(static_cast<std::size_t>(place * static_cast<float>(sampling_steps_)), sampling_steps_ - 1);
      for (std::size_t k = 0; k < 3; ++k) {
        times[i][k] = step_time(2 * at + k, 2 * sampling_steps_, shift);
        levels[i][k] = noise_level(M.sampler.schedule, times[i][k]);
      }
    }
    float *z = stack.take(n * latents), *goal = stack.take(n * latents), *steps = stack.take(rows);
    float* context = stack.take(rows * Text::context_floats);
    float* pooled = Text::pooled_floats > 0 ? stack.take(rows * Text::pooled_floats) : nullptr;
    ex.parallel_for(n, 1, [&](std::size_t begin, std::size_t end, int) {
      for (std::size_t i = begin; i < end; ++i) {
        float* zi = z + i * latents;
        Random(options_.seed, stream + first + i).normals({zi, latents});
        add_noise(levels[i][0], pictures[first + i], zi, zi, latents);
      }
    });

    stack.keep(false);  // nothing flows back into text encoder and teacher
    {
      Scope scope(stack);
      std::vector<std::int32_t> tokens(ids + first * length, ids + (first + n) * length);
      for (std::size_t i = n; i < rows; ++i) tokens.insert(tokens.end(), unconditional, unconditional + length);
      Context c{ex, stack, rows, false};
      typename Text::Saved text{};
      Text::forward(c, text_, tokens.data(), context, pooled, text);

      c.packed = true;
      c.format = options_.teacher_format;
      float *input = stack.take(rows * latents), *output = stack.take(rows * latents);
      std::copy_n(z, n * latents, goal);
      for (std::size_t k = 0; k < 2; ++k) {
        for (std::size_t i = 0; i < rows; ++i) steps[i] = timestep(M.sampler.schedule, times[i % n][k]);
        for (std::size_t i = 0; i < rows; i += n) std::copy_n(goal, n * latents, input + i * latents);
        typename Net::Saved net{};
        Net::forward(c, packed_.weights(), input, steps, {context, pooled, length}, output, net);
        if (guided) guide(output + n * latents, output, options_.guidance, output, n * latents);
        for (std::size_t i = 0; i < n; ++i)
          ddim_step(M.sampler.prediction, levels[i][k], levels[i][k + 1], output + i * latents, goal + i * latents, latents);
      }
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = i * latents; j < (i + 1) * latents; ++j)
          goal[j] = picture_between(levels[i][0], levels[i][2], z[j], goal[j]);
    }
    stack.keep(true);

    Context c{ex, stack, n, false};
    for (std::size_t i = 0; i < n; ++i) steps[i] = timestep(M.sampler.schedule, times[i][0]);
    float* y = stack.take(n * latents);
    typename Net::Saved net{};
    Net::forward(c, state.weights, z, steps, {context, pooled, length}, y, net);
    stack.keep(false);

    // At a given z, an error of x by e is one of eps by e alpha / sigma. y becomes its gradient.
    Losses losses;
    for (std::size_t i = 0; i < n; ++i) {
      const NoiseLevel l = levels[i][0];
      const auto alpha = static_cast<float>(l.alpha), sigma = static_cast<float>(l.sigma);
      const float snr = alpha * alpha / (sigma * sigma), weight = std::max(1.0f, snr);
      const float unit = 2.0f * weight * picture_slope(M.sampler.prediction, l) / static_cast<float>(options_.batch * latents);
      double sum = 0;
      for (std::size_t j = i * latents; j < (i + 1) * latents; ++j) {
        const float e = denoised(M.sampler.prediction, l, z[j], y[j]).x - goal[j];
        sum += static_cast<double>(e) * static_cast<double>(e);
        y[j] = unit * e;
      }
      sum /= static_cast<double>(latents);
      losses.picture += sum;
      losses.loss += static_cast<double>(weight) * sum;
    }
    float* d_context = stack.take_zeroed(n * Text::context_floats);
    Net::backward(c, state.weights, gradients, net, y, nullptr, {d_context});
    return losses;
  }

  const Executor& ex_;
  DistillationOptions options_;
  typename Text::Weights text_;
  Passes<Weights> passes_;
  AlignedBuffer teacher_blob_;
  Weights teacher_{};
  PackedWeights<Weights> packed_;  // the same, as it is used
  std::size_t round_ = 0, sampling_steps_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
