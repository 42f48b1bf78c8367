// SPDX-License-Identifier: Apache-2.0
// Weights in 8 bits with a scale for each output: what is written, what is read, and what is refused.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <mobilediffusion/core/memory.hpp>
#include <mobilediffusion/io/weights.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "io/temporary_folder.hpp"

namespace test_int8_storage_cpp {

using namespace mobilediffusion;

namespace {

struct Weights {
  Matrix<5, 64> linear;
  Matrix<5, 63> narrow;
  Filter<3, 8, 3> filter;
  DepthwiseFilter<70, 3> depthwise;
  Param<96> bias;
};

struct Bound {
  AlignedBuffer memory{reflect::storage_floats<Weights>()};
  Weights weights = reflect::bind<Weights>(memory.data());
};

Bound random_weights() {
  Bound b;
  std::uint32_t state = 1;
  for (const reflect::LeafView& leaf : reflect::leafs(b.weights))
    for (std::size_t i = 0; i < leaf.type->count; ++i) {
      state = state * 1664525u + 1013904223u;
      leaf.data()[i] = static_cast<float>(static_cast<std::int32_t>(state)) * 1e-9f;
    }
  for (std::size_t i = 0; i < 64; ++i) b.weights.linear.data[2 * 64 + i] = 0.0f;     // a row of zeros
  for (std::size_t i = 0; i < 64; ++i) b.weights.linear.data[3 * 64 + i] *= 1e-38f;  // one whose scale would be no normal number
  return b;
}

std::vector<TensorToWrite> listed(const Bound& b) {
  std::vector<TensorToWrite> tensors;
  list_weights(tensors, "", b.weights, Dtype::i8);
  return tensors;
}
TensorToWrite& named(std::vector<TensorToWrite>& tensors, const std::string& name) {
  for (TensorToWrite& t : tensors)
    if (t.name == name) return t;
  throw Error("test: no tensor " + name);
}

}  // namespace

TEST_CASE("matrices and filters go into 8 bits and back within half a step", "[io][int8]") {
  const TemporaryFolder folder;
  const Bound original = random_weights();
  write_safetensors(folder / "file", listed(original));
  const SafetensorsFile file(folder / "file");
  const auto dtype = [&](const char* name) { return std::string(name_of(file.find(name)->dtype)); };
  CHECK(dtype("linear") == "I8");
  CHECK(dtype("linear_scale") == "F32");
  CHECK(dtype("filter") == "I8");
  CHECK(dtype("narrow") == "F16");
  CHECK(dtype("depthwise") == "F16");
  CHECK(dtype("bias") == "F16");
  CHECK(file.find("narrow_scale") == nullptr);
  check_exactly_weights<Weights>(file);

  Bound read;
  read_weights(file, "", read.weights);
  const auto largest_error = [](const float* a, const float* b, std::size_t n) {
    float largest = 0.0f;
    for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(a[i] - b[i]));
    return largest;
  };
  const float step = 2.147f / 127.0f;
  CHECK(largest_error(read.weights.linear.data, original.weights.linear.data, 5 * 64) < 0.51f * step);
  CHECK(largest_error(read.weights.filter.data, original.weights.filter.data, 3 * 72) < 0.51f * step);
  CHECK(largest_error(read.weights.bias.data, original.weights.bias.data, 96) < 1e-3f);
  CHECK(largest_error(read.weights.linear.data, original.weights.linear.data, 5 * 64) > 0.0f);
  for (std::size_t i = 2 * 64; i < 4 * 64; ++i) CHECK(read.weights.linear.data[i] == 0.0f);
}

TEST_CASE("8-bit weights without scales that fit are refused by name", "[io][int8]") {
  struct Wrong {
    const char* kind;
    std::function<void(std::vector<TensorToWrite>&)> edit;
    std::string says;
  };
  const auto put = [](TensorToWrite& t, float value) {
    t.fill = [value](std::span<std::byte> bytes) { std::memcpy(bytes.data() + bytes.size() - 4, &value, 4); };
  };
  const std::vector<Wrong> wrongs{
      {"missing", [](auto& t) { named(t, "filter_scale").name = "scale"; },
       "tensor \"filter_scale\": missing, expected shape [3]"},
      {"too many", [](auto& t) { named(t, "linear_scale") = {.name = "linear_scale", .shape = {6}, .fill = [](auto) {}}; },
       "tensor \"linear_scale\": expected shape [5], found [6]"},
      {"of another rank",
       [](auto& t) {
         named(t, "linear_scale") = {.name = "linear_scale", .shape = {1, 5}, .fill = [](auto) {}};
       },
       "tensor \"linear_scale\": expected shape [5], found [1, 5]"},
      {"no floats",
       [](auto& t) {
         named(t, "linear_scale") = {.name = "linear_scale", .dtype = Dtype::i32, .shape = {5}, .fill = [](auto) {}};
       },
       "tensor \"linear_scale\": expected dtype F32, F16, BF16, F8_E4M3 or F8_E5M2, found I32"},
      {"NaN", [&](auto& t) { put(named(t, "filter_scale"), std::numeric_limits<float>::quiet_NaN()); },
       "tensor \"filter\": expected finite numbers, found NaN or infinity"},
      {"infinite", [&](auto& t) { put(named(t, "linear_scale"), std::numeric_limits<float>::infinity()); },
       "tensor \"linear\": expected finite numbers, found NaN or infinity"},
      {"of what has no outputs",
       [](auto& t) { named(t, "bias") = {.name = "bias", .dtype = Dtype::i8, .shape = {96}, .fill = [](auto) {}}; },
       "tensor \"bias\": expected dtype F32, F16, BF16, F8_E4M3 or F8_E5M2, found I8"},
      {"unsigned",
       [](auto& t) {
         named(t, "linear") = {.name = "linear", .dtype = Dtype::u8, .shape = {5, 64}, .fill = [](auto) {}};
       },
       "tensor \"linear\": expected dtype F32, F16, BF16, F8_E4M3 or F8_E5M2, found U8"},
      {"not asked for", [](auto& t) { t.push_back({.name = "bias_scale", .shape = {96}, .fill = [](auto) {}}); },
       "tensor \"bias_scale\": unknown to the model"},
  };
  const TemporaryFolder folder;
  const Bound original = random_weights();
  for (const Wrong& wrong : wrongs) {
    INFO(wrong.kind);
    std::vector<TensorToWrite> tensors = listed(original);
    wrong.edit(tensors);
    write_safetensors(folder / "file", tensors);
    const SafetensorsFile file(folder / "file");
    Bound read;
    std::string message = "none";
    try {
      check_exactly_weights<Weights>(file);
      read_weights(file, "", read.weights);
    } catch (const Error& e) {
      message = e.what();
    }
    INFO(message);
    CHECK(message.find(wrong.says) != message.npos);
  }
}

}  // namespace test_int8_storage_cpp
