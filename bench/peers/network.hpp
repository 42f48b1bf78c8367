// SPDX-License-Identifier: Apache-2.0
// A network of the library behind an interface: loaded from a file of its tensors, run on one fixed input.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mobilediffusion/io/weights.hpp"
#include "mobilediffusion/kernels/matmul.hpp"
#include "mobilediffusion/layers/context.hpp"

namespace peers {

namespace md = mobilediffusion;

class Network {
 public:
  virtual ~Network() = default;
  virtual void run() = 0;

  std::vector<float> output;
  std::vector<std::size_t> shape;  // of the output, channels last
};

// weights: tensors by the library's names. inputs: what the network reads, channels last. Throw Error.
std::unique_ptr<Network> make_unet(const std::filesystem::path& weights, const std::filesystem::path& inputs, int threads);
std::unique_ptr<Network> make_decoder(const std::filesystem::path& weights, const std::filesystem::path& inputs, int threads);

// Weights in memory as generating has them: read by name, packed.
template <class W>
struct Packed {
  explicit Packed(const std::filesystem::path& path) : blob(md::reflect::storage_floats<W>()) {
    const md::SafetensorsFile file(path);
    md::check_exactly_weights<W>(file);
    md::reflect::bind(weights, blob.data());
    std::vector<float> scratch;
    md::read_weights(file, "", weights, [&](const md::reflect::LeafView& leaf) {
      if (!leaf.type->is_matrix) return;
      scratch.resize(std::max(scratch.size(), leaf.type->count));
      md::kernels::pack_weights_in_place(leaf.data(), leaf.type->rows, leaf.type->columns, scratch.data());
    });
  }

  md::AlignedBuffer blob;
  W weights{};
};

inline std::vector<float> read_input(const md::SafetensorsFile& file, const std::string& name, std::vector<std::size_t> shape) {
  const md::TensorView& tensor = file.require(name, shape);
  std::vector<float> values(tensor.count());
  file.read_floats(tensor, values.data());
  return values;
}

}  // namespace peers
