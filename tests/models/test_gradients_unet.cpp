// SPDX-License-Identifier: Apache-2.0
// Gradients of the whole UNet against differences of its outputs.
#include "catch.hpp"
#include "gradient_check.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/models/unet.hpp"

namespace test_gradients_unet_cpp {

using namespace mobilediffusion;
using namespace gradient_tests;

TEST_CASE("every gradient of the UNet is that of its output") {
  using Model = Unet<presets::tiny.unet>;
  using W = Model::Weights;
  Model::Saved saved;
  constexpr std::size_t batch = 2;
  const Floats timesteps{7.0f, 420.5f};
  const std::string faults = check_gradients<W>(
      {{"z", batch * Model::latent_floats},
       {"context", batch * Model::context_floats, Adjoint::added},
       {"pooled", batch * Model::config.pooled_width, Adjoint::added}},
      {batch * Model::latent_floats},
      [&](Context& c, const W& w, const Pointers& x, const Pointers& y) {
        Model::forward(c, w, x[0], timesteps.data(), {x[1], x[2]}, y[0], saved);
      },
      [&](Context& c, const W& w, const W& g, const Pointers& dy, const Pointers& dx) {
        Model::backward(c, w, g, saved, dy[0], dx[0], {dx[1], dx[2]});
      },
      {.batch = batch});
  CHECK(faults == "");
}

}  // namespace test_gradients_unet_cpp
