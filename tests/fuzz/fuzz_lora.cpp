// SPDX-License-Identifier: Apache-2.0
// Files of low-rank adapters, read and merged.
#include <array>
#include <cmath>

#include "fuzz.hpp"
#include "mobilediffusion/io/lora_file.hpp"

namespace md = mobilediffusion;

namespace {

struct Linear {
  md::Matrix<6, 5> weight;
  md::Param<6> bias;
};
struct Convolution {
  md::Filter<6, 5, 1> weight;
};
struct Attention {
  Linear to_q, to_k;
  std::array<Linear, 1> to_out;
};
struct Network {
  Attention attn1;
  Convolution proj_in;
};
struct Model {
  Network unet;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder("lora");
  const auto path = folder.write("input", fuzz::safetensors_file(fuzz::text_of(data, size)));
  return fuzz::read([&] {
    Model model{};
    const md::LoraFile file{.path = path, .scale = 0.5f};
    md::LoraMerge<Model> merge(model, std::span(&file, 1));
    for (const md::reflect::LeafView& leaf : md::reflect::leafs(model)) {
      const std::vector<float> values(leaf.type->count, 1.0f);
      for (const float x : merge(leaf, values)) fuzz::expect(std::isfinite(x), "finite weights once merged");
    }
  });
}
