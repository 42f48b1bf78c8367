// SPDX-License-Identifier: Apache-2.0
// The tensors of Stable Diffusion 1.5 have the names and shapes that diffusers and transformers give them.
#include <fstream>
#include <map>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/models/text_encoder.hpp>
#include <mobilediffusion/models/unet.hpp>
#include <mobilediffusion/models/vae.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace mobilediffusion;

namespace {

using Shapes = std::map<std::string, std::vector<std::size_t>>;

Shapes published(const std::string& part) {
  std::ifstream file(MOBILEDIFFUSION_TEST_DATA "/stable_diffusion_names.txt");
  Shapes out;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string of, name;
    words >> of >> name;
    if (of != part) continue;
    for (std::size_t d = 0; words >> d;) out[name].push_back(d);
  }
  return out;
}

template <class Weights>
Shapes reflected() {
  Shapes out;
  Weights weights{};
  reflect::visit(weights, [&]<class Leaf>(std::string_view name, Leaf&) {
    out[std::string(name)] = {Leaf::file_shape.begin(), Leaf::file_shape.end()};
  });
  return out;
}

}  // namespace

TEST_CASE("Stable Diffusion 1.5 has its published tensor names and shapes", "[models][names]") {
  const Shapes unet = published("unet");
  CHECK(unet.size() == 686);
  CHECK(reflected<Unet<presets::sd15.unet>::Weights>() == unet);
  const Shapes vae = published("vae");
  CHECK(vae.size() == 248);
  CHECK(reflected<Vae<presets::sd15.vae>::Weights>() == vae);
  const Shapes text = published("text_encoder");
  CHECK(text.size() == 196);
  CHECK(reflected<TextEncoder<presets::sd15.text>::Weights>() == text);
}
