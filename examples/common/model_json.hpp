// SPDX-License-Identifier: Apache-2.0
// What others need to build a model and to write its file: its configuration, what the file's metadata say of it, its tensors.
#pragma once

#include <cstddef>
#include <string>

#include "mobilediffusion/model_file.hpp"

namespace examples {

// {"preset": name, "configuration": ModelConfig, "metadata": {key: text}, "tensors": {name: shape}}, the tensors as PyTorch has
// their shapes and in the order of the file. name: of a preset.
template <mobilediffusion::ModelConfig M>
std::string model_json(const std::string& name) {
  namespace md = mobilediffusion;
  md::ModelWeights<M> weights{};
  std::string text = "{\n  \"preset\": \"" + name + "\",\n  \"configuration\": " + md::reflect::json(M, "  ") +
                     ",\n  \"metadata\": {\"" + md::detail::configuration_key + "\": \"" + md::configuration_text(M) +
                     "\"},\n  \"tensors\": {";
  const char* between = "\n";
  for (const md::reflect::LeafView& leaf : md::reflect::leafs(weights)) {
    text += between + ("    \"" + leaf.path + "\": [");
    for (std::size_t i = 0; i < leaf.type->file_shape.size(); ++i)
      text += (i == 0 ? "" : ", ") + std::to_string(leaf.type->file_shape[i]);
    text += "]";
    between = ",\n";
  }
  return text + "\n  }\n}\n";
}

}  // namespace examples
