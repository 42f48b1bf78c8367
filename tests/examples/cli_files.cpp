// SPDX-License-Identifier: Apache-2.0
// Makes and reads the files of the command-line tests: a model with random weights, wrong ones, pictures.
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/io/read_image.hpp"
#include "pipeline/model_files.hpp"

using namespace mobilediffusion;
using Model = model_files::RandomModel<presets::emoji>;

int main(int argc, char** argv) {
  const std::vector<std::string> a(argv + 1, argv + argc);
  try {
    if (a.size() == 2 && a[0] == "model") {
      Model().write(a[1], Dtype::f16);
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
    } else if (a.size() == 2 && a[0] == "size") {
      const Image image = read_image(a[1]);
      std::cout << image.width << 'x' << image.height << '\n';
    } else {
      std::cerr << "cli_files: unknown command\n";
      return 2;
    }
  } catch (const std::exception& e) {
    std::cerr << "cli_files: " << e.what() << '\n';
    return 1;
  }
}
