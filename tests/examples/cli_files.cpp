// SPDX-License-Identifier: Apache-2.0
// Makes and reads the files of the command-line tests: a model with random weights, wrong ones, pictures.
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/model_json.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/io/read_image.hpp"
#include "pipeline/ldm_files.hpp"
#include "pipeline/model_files.hpp"

using namespace mobilediffusion;
using Model = model_files::RandomModel<presets::emoji>;

int main(int argc, char** argv) {
  const std::vector<std::string> a(argv + 1, argv + argc);
  try {
    if (a.size() == 2 && a[0] == "model") {
      Model().write(a[1], Dtype::f16);
    } else if (a.size() == 2 && a[0] == "sd_toy") {  // as one file, and as a folder
      const model_files::RandomModel<presets::sd_toy> toy;
      write_safetensors(a[1] + ".safetensors", ldm_files::checkpoint_of<presets::sd_toy>(toy.weights, {}, Dtype::f16));
      const auto write = [&](const char* part, const char* stem, const auto& network) {
        std::filesystem::create_directories(std::filesystem::path(a[1]) / part);
        model_files::Tensors tensors;
        list_weights(tensors, "", network, Dtype::f16);
        write_safetensors(std::filesystem::path(a[1]) / part / (std::string(stem) + ".safetensors"), tensors);
      };
      write("unet", "diffusion_pytorch_model", toy.weights.unet);
      write("vae", "diffusion_pytorch_model", toy.weights.vae);
      write("text_encoder", "model", toy.weights.text_encoder);
      const model_files::RandomModel<presets::with_vae(presets::sd_toy, presets::taesd)> tiny(2);
      model_files::Tensors tensors;
      list_weights(tensors, "", tiny.weights.vae, Dtype::f16);
      write_safetensors(a[1] + ".taesd.safetensors", tensors);
    } else if (a.size() == 1 && a[0] == "sd_toy_json") {
      std::cout << examples::model_json<presets::sd_toy>("sd_toy");
    } else if (a.size() == 1 && a[0] == "kinds") {
      for (const auto& wrong : model_files::wrong_models()) std::cout << wrong.kind << '\n';
      for (const auto& wrong : model_files::wrong_bytes()) std::cout << wrong.kind << '\n';
    } else if (a.size() == 4 && a[0] == "wrong") {  // KIND GOOD FILE
      for (const auto& wrong : model_files::wrong_models())
        if (wrong.kind == a[1]) model_files::write_wrong(Model(), wrong, a[3]);
      for (const auto& wrong : model_files::wrong_bytes()) {
        if (wrong.kind != a[1]) continue;
        std::string bytes = read_file(a[2]);
        wrong.edit(bytes);
        write_file(a[3], bytes);
      }
    } else if (a.size() == 2 && a[0] == "text") {
      for (const auto& [key, value] : read_png_text(a[1])) std::cout << key << '=' << value << '\n';
    } else if (a.size() == 2 && a[0] == "json") {  // how many tensors it lists
      std::cout << nlohmann::json::parse(read_file(a[1])).at("tensors").size() << '\n';
    } else if (a.size() == 2 && a[0] == "size") {
      const Image image = read_image(a[1]);
      std::cout << image.width << 'x' << image.height << '\n';
    } else if (a.size() == 3 && a[0] == "same") {  // of the same pixels
      return read_image(a[1]) == read_image(a[2]) ? 0 : 3;
    } else {
      std::cerr << "cli_files: unknown command\n";
      return 2;
    }
  } catch (const std::exception& e) {
    std::cerr << "cli_files: " << e.what() << '\n';
    return 1;
  }
}
