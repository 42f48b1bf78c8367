// SPDX-License-Identifier: Apache-2.0
// What a control branch hands to a UNet: sums on the skips and behind the middle.
#include <array>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "model_runs.hpp"

namespace test_conditioning_cpp {

using namespace mobilediffusion;

TEST_CASE("residuals of a control branch are added to the skips and behind the middle", "[unet]") {
  using Net = Unet<presets::tiny.unet>;
  constexpr std::size_t batch = 2;
  const Executor executor(1);
  gradient_tests::Bound<Net::Weights> weights;
  gradient_tests::randomize(*weights, 1);
  const auto normals = [](std::size_t n, std::uint64_t seed) {
    std::vector<float> x(batch * n);
    Random(seed, 0).normals(x);
    return x;
  };
  const auto z = normals(Net::latent_floats, 2), context = normals(Net::context_floats, 3),
             pooled = normals(Net::config.pooled_width, 4);
  const std::vector<float> timesteps{10.0f, 700.0f};
  const AlignedBuffer memory(Net::stack_floats(Plan::inference, batch));
  const auto with = [&](auto&& f) {
    Stack stack(memory);
    Context c{.executor = executor, .stack = stack, .batch = batch, .packed = false};
    Net::Saved saved{};
    std::vector<float> y(z.size());
    f(c, saved, y.data());
    return y;
  };
  Conditioning conditioning{context.data(), pooled.data()};
  const auto forward = [&] {
    return with([&](Context& c, Net::Saved& saved, float* y) {
      Net::forward(c, *weights, z.data(), timesteps.data(), conditioning, y, saved);
    });
  };
  const auto plain = forward();

  // By hand: the two halves of the network with sums between them.
  std::vector<std::vector<float>> residuals;
  std::vector<const float*> pointers;
  for (std::size_t i = 0; i < Net::skips; ++i) residuals.push_back(normals(Net::skip_floats(i), 10 + i));
  for (std::size_t i = 0; i < Net::skips; ++i) pointers.push_back(i == 1 ? nullptr : residuals[i].data());  // one of them absent
  const std::vector<float> middle = normals(Net::middle_floats, 99);
  const auto by_hand = with([&](Context& c, Net::Saved& saved, float* y) {
    const float* time = Net::embed_time(c, *weights, timesteps.data(), conditioning, saved);
    std::array<float*, Net::skips> skip{};
    float* h = Net::way_down(c, *weights, z.data(), time, conditioning, skip, saved);
    for (std::size_t i = 0; i < Net::skips; ++i)
      for (std::size_t k = 0; k < batch * Net::skip_floats(i) && pointers[i] != nullptr; ++k) skip[i][k] += residuals[i][k];
    for (std::size_t k = 0; k < middle.size(); ++k) h[k] += middle[k];
    Net::way_up(c, *weights, h, skip, time, conditioning, y, saved);
  });
  CHECK(by_hand != plain);

  conditioning.skip_residuals = pointers;
  conditioning.middle_residual = middle.data();
  CHECK(forward() == by_hand);
  const std::vector<const float*> none(Net::skips, nullptr);
  conditioning.skip_residuals = none;
  conditioning.middle_residual = nullptr;
  CHECK(forward() == plain);
}

}  // namespace test_conditioning_cpp
