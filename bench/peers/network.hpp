// SPDX-License-Identifier: Apache-2.0
// A network of the library behind an interface: loaded from a file of its tensors, run on one fixed input.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mobilediffusion/model_file.hpp"

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
std::unique_ptr<Network> make_unet(const std::filesystem::path& weights, const std::filesystem::path& inputs, int threads,
                                   md::Format format);
std::unique_ptr<Network> make_decoder(const std::filesystem::path& weights, const std::filesystem::path& inputs, int threads,
                                      md::Format format);

// Weights in memory as generating has them: read by name, packed.
template <class W>
md::PackedWeights<W> read_packed(const std::filesystem::path& path, md::Format format) {
  const md::SafetensorsFile file(path);
  md::check_exactly_weights<W>(file);
  md::PackedWeights<W> packed(format);
  md::read_weights(file, "", packed);
  return packed;
}

inline std::vector<float> read_input(const md::SafetensorsFile& file, const std::string& name, std::vector<std::size_t> shape) {
  const md::TensorView& tensor = file.require(name, shape);
  std::vector<float> values(tensor.count());
  file.read_floats(tensor, values.data());
  return values;
}

}  // namespace peers
