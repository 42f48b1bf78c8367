// SPDX-License-Identifier: Apache-2.0
// Stores a model of the shipped kind in 8 bits: matrices and filters with a scale for each output, the rest in fp16. Half the
// size, and read like any other.
//
//   quantize examples/emoji_one_step.safetensors --out emoji_int8.safetensors
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

#include "common/arguments.hpp"
#include "mobilediffusion/model_file.hpp"

namespace md = mobilediffusion;

int main(int argc, char** argv) {
  std::string model, out;
  CLI::App app{"Stores a model in 8 bits, which halves its file", "quantize"};
  app.add_option("model", model, "A model's file")->required()->type_name("FILE");
  app.add_option("--out", out, "The file to write")->required()->type_name("FILE");
  if (const auto status = examples::parse(app, argc, argv)) return *status;
  try {
    constexpr md::ModelConfig config = md::presets::emoji;
    const md::SafetensorsFile file(model);
    md::check_model<config>(file);
    md::ModelWeights<config> weights{};
    const md::AlignedBuffer memory(md::reflect::storage_floats<md::ModelWeights<config>>());
    md::reflect::bind(weights, memory.data());
    md::read_weights(file, "", weights);
    const std::string& tokenizer = file.require_metadata(md::detail::tokenizer_key);
    md::write_model<config>(out, weights, md::base64_decode(tokenizer), md::Dtype::i8, file.metadata());
    std::printf("%s: %.1f MB, %s: %.1f MB\n", model.c_str(), static_cast<double>(std::filesystem::file_size(model)) * 1e-6,
                out.c_str(), static_cast<double>(std::filesystem::file_size(out)) * 1e-6);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quantize: %s\n", e.what());
    return 1;
  }
}
