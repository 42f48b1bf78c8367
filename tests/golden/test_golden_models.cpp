// SPDX-License-Identifier: Apache-2.0
// The preset `tiny`, and a light decoder, against its twin in PyTorch.
#include "golden/golden_models.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "models/model_runs.hpp"

namespace test_golden_models_cpp {

using namespace mobilediffusion;

TEST_CASE("golden: the UNet equals its twin in PyTorch") { golden::unet<presets::tiny.unet>("models"); }
TEST_CASE("golden: the VAE equals its twin in PyTorch") { golden::vae<presets::tiny.vae>("models"); }
TEST_CASE("golden: a decoder that is not built as its encoder is equals its twin in PyTorch") {
  golden::vae<model_tests::odd::light_vae>("decoders", "light");
}
TEST_CASE("golden: the text encoder equals its twin in PyTorch") { golden::text<presets::tiny.text>("models"); }

}  // namespace test_golden_models_cpp
