// SPDX-License-Identifier: Apache-2.0
// Weights with adapters merged into them, against PEFT and LyCORIS, which also made the files (twin/lora.py).
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "io/temporary_folder.hpp"
#include "mobilediffusion/core/memory.hpp"
#include "mobilediffusion/io/lora_file.hpp"

using namespace mobilediffusion;

namespace {

struct Linear {
  Matrix<8, 12> weight;
  Param<8> bias;
};
struct Convolution {
  Filter<4, 6, 3> weight;
  Param<4> bias;
};
struct Pointwise {
  Filter<8, 6, 1> weight;
  Param<8> bias;
};
struct Norm {
  Param<6> weight, bias;
};
struct Unet {
  Linear to_q;
  Convolution conv1;
  Pointwise proj_in;
  Norm norm1;
};
struct Toy {
  Unet unet;
};

// A case's files, taken out of the golden one, and the weights that they make.
struct Case {
  SafetensorsFile golden{MOBILEDIFFUSION_TEST_DATA "/lora.safetensors"};
  TemporaryFolder folder;
  AlignedBuffer memory{reflect::storage_floats<Toy>()};
  Toy weights = reflect::bind<Toy>(memory.data());

  std::vector<float> read(const std::string& name) const {
    const TensorView* const t = golden.find(name);
    if (t == nullptr) throw Error("golden: no tensor " + name);
    std::vector<float> values(t->count());
    golden.read_floats(*t, values.data());
    return values;
  }
  std::vector<LoraFile> files(const std::string& name) const {
    std::vector<LoraFile> out;
    for (const float scale : read(name + "/scales")) {
      const std::string front = name + "/" + std::to_string(out.size()) + "/";
      std::vector<std::vector<float>> values;
      std::vector<TensorToWrite> tensors;
      for (const TensorView& t : golden.tensors())
        if (t.name.starts_with(front)) {
          values.push_back(read(t.name));
          tensors.push_back({.name = t.name.substr(front.size()), .shape = {t.shape.begin(), t.shape.end()}});
        }
      for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].floats = values[i];
      out.push_back({folder / (std::to_string(out.size()) + ".safetensors"), scale});
      write_safetensors(out.back().path, tensors, {});
    }
    return out;
  }
  void merge(const std::string& name) {
    const Executor ex(2);
    LoraMerge<Toy> merge(weights, files(name), ex);
    for (const reflect::LeafView& leaf : reflect::leafs(weights)) {
      const std::string path = leaf.path.substr(leaf.path.find('.') + 1);
      const std::vector<float> base = read("base/" + path);
      std::vector<float> order(base);
      if (leaf.type->taps > 1) mobilediffusion::detail::to_memory_order(*leaf.type, base.data(), order.data());
      std::copy(order.begin(), order.end(), leaf.data());
      if (!leaf.type->is_matrix) continue;
      const auto merged = merge(leaf, order);
      std::copy(merged.begin(), merged.end(), leaf.data());
    }
    merge.finish();
  }
  // The largest difference to what PEFT or LyCORIS have.
  double difference(const std::string& name) {
    double worst = 0;
    for (const reflect::LeafView& leaf : reflect::leafs(weights)) {
      const std::string path = leaf.path.substr(leaf.path.find('.') + 1), merged = name + "/merged/" + path;
      const std::vector<float> expected = read(golden.find(merged) != nullptr ? merged : "base/" + path);
      std::vector<float> order(leaf.data(), leaf.data() + leaf.type->count);
      if (leaf.type->taps > 1) mobilediffusion::detail::to_file_order(*leaf.type, leaf.data(), order.data());
      for (std::size_t i = 0; i < order.size(); ++i)
        worst = std::max(worst, std::fabs(static_cast<double>(order[i]) - static_cast<double>(expected[i])));
    }
    return worst;
  }
};

}  // namespace

TEST_CASE("merged weights are those of PEFT and LyCORIS, for every method and several adapters in their order",
          "[golden][lora]") {
  std::set<std::string> names;
  const Case all;
  for (const TensorView& t : all.golden.tensors())
    if (!t.name.starts_with("base/")) names.insert(t.name.substr(0, t.name.find('/')));
  REQUIRE(names.size() == 22);
  for (const std::string& name : names) {
    INFO(name);
    Case c;
    c.merge(name);
    CHECK(c.difference(name) < 2e-6);
  }
}

TEST_CASE("adapters of a case do nothing at scale 0, and the order matters where one has magnitudes", "[golden][lora]") {
  Case c;
  std::vector<LoraFile> files = c.files("dora_then_lora");
  const auto merged = [&](std::vector<LoraFile> list) {
    const Executor ex(1);
    LoraMerge<Toy> merge(c.weights, list, ex);
    const auto leafs = reflect::leafs(c.weights);
    const std::vector<float> base = c.read("base/to_q.weight");
    const auto values = merge(leafs[0], base);
    return std::vector<float>(values.begin(), values.end());
  };
  const auto both = merged(files);
  std::swap(files[0], files[1]);
  CHECK(merged(files) != both);
  files[0].scale = files[1].scale = 0.0f;
  CHECK(merged(files) == c.read("base/to_q.weight"));
}
