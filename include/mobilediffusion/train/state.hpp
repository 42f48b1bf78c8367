// SPDX-License-Identifier: Apache-2.0
// Everything that a training is: weights, gradients, both moments of AdamW, the moving average and the step, in flat arrays
// that the same reflected visit binds, saves and restores.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "../io/numbers.hpp"
#include "../io/weights.hpp"
#include "adamw.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

struct OptimizerOptions {
  AdamWConfig adamw{};
  LearningRateSchedule schedule{};
  float clip = 1.0f;         // of the gradient's norm
  float ema_decay = 0.999f;  // of the average that is deployed; shorter at first: min(ema_decay, (1 + step) / (20 + step))
};

struct StepReport {
  float learning_rate = 0, gradient_norm = 0;
};

// A whole number in a file's metadata. Throws Error where it is missing or none.
inline std::size_t number_of(const SafetensorsFile& file, const std::string& key) {
  const std::string& text = file.require_metadata(key);
  std::size_t number = 0;
  if (!mobilediffusion::detail::parse_number(text, number))
    throw Error("file " + file.name() + ": metadata " + key + ": expected a number, found " +
                mobilediffusion::detail::printable(text));
  return number;
}

template <class W>
class TrainState {
 public:
  static constexpr std::size_t floats = reflect::storage_floats<W>();

  TrainState() : weights_(floats), gradients_(floats), first_(floats), second_(floats), average_(floats) {
    reflect::bind(weights, weights_.data());
    reflect::bind(gradients, gradients_.data());
    reflect::bind(average, average_.data());
  }

  W weights{}, gradients{}, average{};
  std::size_t step = 0;  // done

  void zero_gradients() { gradients_.zero(); }
  // gradients += other: an array bound as the gradients are.
  void add_gradients(const Executor& ex, const AlignedBuffer& other) { add(ex, gradients_.data(), other.data(), floats); }
  // The average starts from the weights.
  void start_average() { std::copy_n(weights_.data(), floats, average_.data()); }

  // A training that begins anew from the weights as they are.
  void restart() {
    gradients_.zero();
    first_.zero();
    second_.zero();
    start_average();
    step = 0;
  }

  // One AdamW step with the gradients as they are. Throws Error if they are not finite, before anything is changed.
  // trains(name): whether the tensor is to change at all.
  template <class Predicate = bool (*)(std::string_view)>
  StepReport update(
      const Executor& ex, const OptimizerOptions& o, Predicate trains = [](std::string_view) { return true; }) {
    const double norm2 = squared_norm(ex, gradients_.data(), floats);
    if (!std::isfinite(norm2))
      throw Error("training: the gradient is not finite at step " + std::to_string(step + 1) + "; lower the learning rate");
    ++step;
    AdamWConfig adamw = o.adamw;
    adamw.learning_rate = learning_rate(o.schedule, step);
    const float scale = clip_scale(norm2, o.clip);
    const float done = static_cast<float>(step), ema = std::min(o.ema_decay, (1.0f + done) / (20.0f + done));
    for (const reflect::LeafView& leaf : reflect::leafs(weights)) {
      if (!trains(leaf.path)) continue;
      const std::size_t at = static_cast<std::size_t>(leaf.data() - weights_.data());
      adamw_step(ex, adamw, step, leaf.data(), gradients_.data() + at, first_.data() + at, second_.data() + at, leaf.type->count,
                 scale, leaf.type->is_matrix, average_.data() + at, ema);
    }
    return {adamw.learning_rate, static_cast<float>(std::sqrt(norm2))};
  }

  // Writes everything, bit by bit; the file is replaced in one step, so a kill at any moment leaves the old one or the new one.
  void save(const std::filesystem::path& path, Metadata metadata = {}) const {
    std::vector<TensorToWrite> tensors;
    list(tensors, "");
    metadata["step"] = std::to_string(step);
    write_safetensors(path, tensors, metadata);
  }
  // Throws Error for a file of another architecture or with numbers that are not finite, with this state as it was.
  Metadata load(const std::filesystem::path& path) {
    const SafetensorsFile file(path);
    check(file, "");
    const std::size_t done = number_of(file, "step");
    read(file, "");
    step = done;
    return file.metadata();
  }

  // For files that hold more than one state: everything but the step, under prefix + what save writes.
  void list(std::vector<TensorToWrite>& tensors, const std::string& prefix) const {
    for_each_array([&](const char* name, const AlignedBuffer& buffer) {
      W view{};
      reflect::bind(view, buffer.data());
      list_weights(tensors, prefix + name, view, Dtype::f32);
    });
  }
  // Throws Error for what read cannot use. Everything is read twice: a bad number must be found before the first is replaced. A
  // second moment is a mean of squares: a step takes its root.
  void check(const SafetensorsFile& file, const std::string& prefix) const {
    for_each_array([&](const char* name, const AlignedBuffer&) { check_weights<W>(file, prefix + name); });
    const AlignedBuffer probe(floats);
    for_each_array([&](const char* name, const AlignedBuffer& buffer) {
      W view{};
      reflect::bind(view, probe.data());
      read_weights(file, prefix + name, view);
      if (&buffer != &second_) return;
      for (const reflect::LeafView& leaf : reflect::leafs(view))
        for (std::size_t i = 0; i < leaf.type->count; ++i)
          if (leaf.data()[i] < 0.0f)
            throw Error("file " + file.name() + ": tensor " + prefix + name + std::string(leaf.path) +
                        ": expected numbers of at least 0, found " + std::to_string(leaf.data()[i]));
    });
  }
  void read(const SafetensorsFile& file, const std::string& prefix) {
    for_each_array([&](const char* name, const AlignedBuffer& buffer) {
      W view{};
      reflect::bind(view, buffer.data());
      read_weights(file, prefix + name, view);
    });
  }

 private:
  template <class F>
  void for_each_array(F&& f) const {
    f("weights.", weights_);
    f("average.", average_);
    f("first_moment.", first_);
    f("second_moment.", second_);
  }
  AlignedBuffer weights_, gradients_, first_, second_, average_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
