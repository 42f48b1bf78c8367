// SPDX-License-Identifier: Apache-2.0
// Normals against PyTorch's own (golden/samplers.json, made by twin/samplers.py): calls of every length on one generator.
#include <cmath>
#include <mobilediffusion/core/torch_random.hpp>
#include <mobilediffusion/io/json.hpp>
#include <nlohmann/json.hpp>
#include <vector>

#include "catch.hpp"

namespace test_torch_random_cpp {

using namespace mobilediffusion;

TEST_CASE("normals are those of PyTorch's generator", "[core][random][golden]") {
  const auto golden = nlohmann::json::parse(read_file(MOBILEDIFFUSION_TEST_DATA "/samplers.json"));
  const auto close = [](float found, const nlohmann::json& expected) {
    return std::abs(static_cast<double>(found) - expected.get<double>()) <= 1e-6;
  };
  for (const auto& of_seed : golden.at("normals")) {
    TorchNormals normals(of_seed.at("seed").get<std::uint64_t>());
    for (const auto& call : of_seed.at("calls")) {
      std::vector<float> x(call.at("count").get<std::size_t>());
      normals.normals(x.data(), 1, x.size());
      const auto &first = call.at("first"), &last = call.at("last");
      bool equal = true;
      for (std::size_t i = 0; i < first.size(); ++i)
        equal = equal && close(x[i], first[i]) && close(x[x.size() - last.size() + i], last[i]);
      CAPTURE(of_seed.at("seed").get<std::uint64_t>(), x.size());
      CHECK(equal);
    }
    std::vector<float> x(60);
    normals.normals(x.data(), 4, 15);
    bool equal = true;
    for (std::size_t i = 0; i < x.size(); ++i) equal = equal && close(x[i], of_seed.at("channels_last")[i]);
    CHECK(equal);
  }
}

}  // namespace test_torch_random_cpp
