// SPDX-License-Identifier: Apache-2.0
// Runs a layer, block or model on the golden tensors and compares outputs and every gradient with PyTorch's (README.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/io/weights.hpp"
#include "mobilediffusion/layers/context.hpp"
#include "mobilediffusion/layers/packed_weights.hpp"

namespace golden {

inline constexpr double tolerance = 1e-4;
inline constexpr std::size_t batch = 2;
inline constexpr std::size_t plenty = std::size_t{1} << 20;  // floats of stack

// One case of a file: CASE/{weights,gradients}/PATH and CASE/{inputs,input_gradients,outputs,cotangents}/NAME.
template <class W>
class Case {
 public:
  Case(const std::string& file, const std::string& name)
      : file_(MOBILEDIFFUSION_TEST_DATA "/" + file + ".safetensors"),
        prefix_(name + "/"),
        memory_(mobilediffusion::reflect::storage_floats<W>()),
        gradient_memory_(mobilediffusion::reflect::storage_floats<W>()),
        weights_(mobilediffusion::reflect::bind<W>(memory_.data())),
        gradients_(mobilediffusion::reflect::bind<W>(gradient_memory_.data())) {
    INFO("golden " << file << ", " << name);
    mobilediffusion::read_weights(file_, prefix_ + "weights/", weights_);
    std::size_t tensors = 0;
    for (const auto& t : file_.tensors()) tensors += t.name.starts_with(prefix_ + "weights/") ? 1 : 0;
    REQUIRE(tensors == mobilediffusion::reflect::leaf_count<W>());
  }

  const float* input(const std::string& name) { return floats("inputs/", name); }
  const float* cotangent(const std::string& name) { return floats("cotangents/", name); }
  const std::int32_t* ids(const std::string& name) {
    const auto& t = *file_.find(prefix_ + "inputs/" + name);
    ids_.resize(t.count());
    file_.read_bytes(t, std::as_writable_bytes(std::span(ids_)));
    return ids_.data();
  }
  // Memory for what a pass computes. Assigned starts as NaN, so that what is left out or read before shows.
  float* output(const std::string& name) { return result("outputs/", name, nan); }
  float* assigned(const std::string& name) { return result("input_gradients/", name, nan); }
  float* added(const std::string& name) { return result("input_gradients/", name, 0.0f); }

  // forward(context, weights) fills every output, backward(context, weights, gradients) every input's gradient. A second
  // forward pass runs as inference does: packed weights and a stack of no more than stack_floats.
  template <class Forward, class Backward>
  void run(std::size_t stack_floats, Forward&& forward, Backward&& backward) {
    INFO("golden " << prefix_);
    {
      const mobilediffusion::AlignedBuffer memory(8 * plenty);
      mobilediffusion::Stack stack(memory);
      mobilediffusion::Context c{executor_, stack, batch, false};
      stack.keep(true);
      forward(c, weights_);
      expect_results("outputs/");
      stack.keep(false);
      backward(c, weights_, gradients_);
      expect_results("input_gradients/");
      expect_gradients();
    }
    infer(stack_floats, forward);
  }
  // That second pass alone.
  template <class Forward>
  void infer(std::size_t stack_floats, Forward&& forward) {
    attempt(stack_floats, forward);
    INFO("packed " << prefix_);
    expect_results("outputs/");
  }
  // The same without comparing its results.
  template <class Forward>
  void attempt(std::size_t stack_floats, Forward&& forward) {
    const mobilediffusion::PackedWeights<W> packed(weights_, mobilediffusion::Format::fp32);
    const mobilediffusion::AlignedBuffer memory(stack_floats);
    mobilediffusion::Stack stack(memory);
    mobilediffusion::Context c{executor_, stack, batch, true};
    forward(c, packed.weights());
  }

  // Of a result that was computed apart.
  void check(const std::string& name, const std::vector<float>& computed) const {
    const std::vector<float> expected = read(name);
    REQUIRE(computed.size() == expected.size());
    CHECK(error(computed.data(), expected, largest(expected)) < tolerance);
  }

 private:
  static constexpr float nan = std::numeric_limits<float>::quiet_NaN();

  std::vector<float> read(const std::string& name) const {
    INFO("golden tensor " << prefix_ << name);
    const mobilediffusion::TensorView* const t = file_.find(prefix_ + name);
    REQUIRE(t != nullptr);
    std::vector<float> out(t->count());
    file_.read_floats(*t, out.data());
    return out;
  }
  const float* floats(const std::string& kind, const std::string& name) {
    return floats_.try_emplace(kind + name, read(kind + name)).first->second.data();
  }
  float* result(const std::string& kind, const std::string& name, float start) {
    std::vector<float>& r = results_[kind + name];
    r.assign(read(kind + name).size(), start);
    return r.data();
  }

  static double largest(const std::vector<float>& x) {
    double out = 0;
    for (const float v : x) out = std::max(out, std::abs(static_cast<double>(v)));
    return out;
  }
  // max |a - b| / scale; infinite where a is not a number.
  static double error(const float* a, const std::vector<float>& b, double scale) {
    double out = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
      const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])) / scale;
      if (!(difference <= out)) out = std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
    }
    return out;
  }
  // Every tensor of this kind in the file was computed, and is right.
  void expect_results(const std::string& kind) const {
    for (const auto& t : file_.tensors()) {
      if (!t.name.starts_with(prefix_ + kind)) continue;
      const std::string name = t.name.substr(prefix_.size());
      const auto computed = results_.find(name);
      INFO("golden " << t.name);
      REQUIRE(computed != results_.end());
      const std::vector<float> expected = read(name);
      const double relative_error = error(computed->second.data(), expected, largest(expected));
      CHECK(relative_error < tolerance);
    }
  }
  void expect_gradients() const {
    for (const auto& leaf : mobilediffusion::reflect::leafs(gradients_)) {
      const std::vector<float> expected = read("gradients/" + leaf.path);
      std::vector<float> computed(leaf.type->count);
      mobilediffusion::detail::to_file_order(*leaf.type, leaf.data(), computed.data());
      double scale = largest(expected);
      // The bias of softmax attention's keys has no gradient, only rounding: measured by that of their weight.
      for (const std::string_view key : {"to_k.bias", "k_proj.bias"})
        if (leaf.path.ends_with(key)) scale = largest(read("gradients/" + leaf.path.substr(0, leaf.path.size() - 4) + "weight"));
      const double relative_error = error(computed.data(), expected, scale);
      INFO("golden " << prefix_ << "gradients/" << leaf.path);
      CHECK(relative_error < tolerance);
    }
  }

  mobilediffusion::SafetensorsFile file_;
  std::string prefix_;
  mobilediffusion::AlignedBuffer memory_, gradient_memory_;
  W weights_, gradients_;
  mobilediffusion::Executor executor_{2};
  std::map<std::string, std::vector<float>> floats_, results_;
  std::vector<std::int32_t> ids_;
};

}  // namespace golden
