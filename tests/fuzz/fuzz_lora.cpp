// SPDX-License-Identifier: Apache-2.0
// Files of adapters, read and merged.
#include <array>
#include <cmath>

#include "fuzz.hpp"
#include "mobilediffusion/core/memory.hpp"
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
struct Wide {
  md::Filter<6, 4, 3> weight;
  md::Param<6> bias;
};
struct Norm {
  md::Param<6> weight, bias;
};
struct Resnet {
  Norm norm1;
  Wide conv1;
};
struct Level {
  std::array<Resnet, 1> resnets;
};
struct Attention {
  Linear to_q, to_k;
  std::array<Linear, 1> to_out;
};
struct Network {
  Attention attn1;
  Convolution proj_in;
  std::array<Level, 1> down_blocks;
};
struct Text {
  Linear q_proj;
};
struct Model {
  Text text_encoder;
  Network unet;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder("lora");
  const auto path = folder.write("input", fuzz::safetensors_file(fuzz::text_of(data, size)));
  return fuzz::read([&] {
    static const md::AlignedBuffer memory(md::reflect::storage_floats<Model>());
    memory.zero();
    Model model = md::reflect::bind<Model>(memory.data());
    const md::LoraFile file{.path = path, .scale = 0.5f, .text_scale = 0.25f};
    static const md::Executor executor(1);
    md::LoraMerge<Model> merge(model, std::span(&file, 1), executor);
    const auto leafs = md::reflect::leafs(model);
    for (const md::reflect::LeafView& leaf : leafs) {
      if (!leaf.type->is_matrix) continue;
      const std::vector<float> values(leaf.type->count, 1.0f);
      for (const float x : merge(leaf, values)) fuzz::expect(std::isfinite(x), "finite weights once merged");
    }
    merge.finish();
    for (const md::reflect::LeafView& leaf : leafs)
      for (std::size_t i = 0; i < leaf.type->count; ++i)
        fuzz::expect(std::isfinite(leaf.data()[i]), "finite weights once merged");
  });
}
