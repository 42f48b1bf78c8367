// SPDX-License-Identifier: Apache-2.0
// Samplers with a whole (toy) model: what they have in common, what they depend on.
#include <cstdint>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/sampling.hpp>
#include <mobilediffusion/train/initialize.hpp>
#include <vector>

#include "catch.hpp"
#include "gradient_check.hpp"

using namespace mobilediffusion;

namespace test_sampling_cpp {
namespace {

using Tiny = Sampling<presets::tiny>;
constexpr std::size_t latents = Tiny::latents, length = presets::tiny.text.length;

struct Model {
  gradient_tests::Bound<TextEncoder<presets::tiny.text>::Weights> text;
  gradient_tests::Bound<Unet<presets::tiny.unet>::Weights> unet;
  Model() {
    train::initialize(*text, 3, {.zero_branches = false});
    gradient_tests::randomize(*unet, 4);
  }
  std::vector<float> draw(const SamplingOptions& options, std::vector<std::uint64_t> seeds, int threads = 1) const {
    const Executor ex = Executor::oversubscribed(threads);
    const AlignedBuffer memory(Tiny::stack_floats(seeds.size()));
    Stack stack(memory);
    const Context c{ex, stack, seeds.size(), false};
    std::vector<std::int32_t> ids(2 * seeds.size() * length, 7);
    for (std::size_t i = 0; i < seeds.size() * length; ++i) ids[i] = static_cast<std::int32_t>(5 + i % length);
    std::vector<float> z(seeds.size() * latents);
    std::size_t reported = 0;
    CHECK(Tiny::run(c, *text, *unet, ids.data(), seeds.data(), options, z.data(), [&](Progress p) {
      CHECK(p.step == ++reported);
      return true;
    }));
    CHECK(reported == options.steps);
    return z;
  }
};

}  // namespace

TEST_CASE("in one step all samplers are the same", "[diffusion]") {
  const Model model;
  for (const float guidance : {1.0f, 2.5f}) {
    const auto ddim = model.draw({Ddim{}, 1, guidance}, {11, 12});
    CHECK(model.draw({Renoise{}, 1, guidance}, {11, 12}) == ddim);
    CHECK(model.draw({Renoise{}, 2, guidance}, {11, 12}) != ddim);
  }
}

TEST_CASE("noise added between steps depends on the seed alone", "[diffusion]") {
  const Model model;
  const SamplingOptions four{Renoise{}, 4, 1.0f};
  const auto both = model.draw(four, {11, 12});
  CHECK(model.draw(four, {11, 12}) == both);
  CHECK(model.draw(four, {11, 12}, 2) == both);
  CHECK(model.draw({Ddim{}, 4, 1.0f}, {11, 12}) != both);
  // Each sample of a batch is what it is alone.
  const auto first = model.draw(four, {11}), second = model.draw(four, {12});
  for (std::size_t i = 0; i < latents; ++i) {
    CHECK(both[i] == Approx(first[i]).epsilon(1e-4).margin(1e-5));
    CHECK(both[latents + i] == Approx(second[i]).epsilon(1e-4).margin(1e-5));
  }
  CHECK(first != second);
}

TEST_CASE("UFOGen's sampler in figures", "[diffusion]") {
  // Two steps, done by hand: picture of pure noise, new noise at the middle time, picture of that.
  const Model model;
  const float middle = step_time(1, 2, static_cast<float>(presets::tiny.sampler.shift_percent) * 0.01f);
  const NoiseLevel level = noise_level(presets::tiny.sampler.schedule, middle);
  const auto x = model.draw({Renoise{}, 1, 1.0f}, {11});
  std::vector<float> noise(latents), z(latents);
  Random(11, 1).normals(noise);
  add_noise(level, x.data(), noise.data(), z.data(), latents);

  const Executor ex(1);
  const AlignedBuffer memory(Tiny::stack_floats(1));
  Stack stack(memory);
  Context c{ex, stack, 1, false};
  std::vector<std::int32_t> ids(length);
  for (std::size_t i = 0; i < length; ++i) ids[i] = static_cast<std::int32_t>(5 + i);
  std::vector<float> context(length * presets::tiny.text.width), pooled(presets::tiny.text.width), out(latents);
  TextEncoder<presets::tiny.text>::Saved text{};
  TextEncoder<presets::tiny.text>::forward(c, *model.text, ids.data(), context.data(), pooled.data(), text);
  Unet<presets::tiny.unet>::Saved unet{};
  const float time = timestep(presets::tiny.sampler.schedule, middle);
  Unet<presets::tiny.unet>::forward(c, *model.unet, z.data(), &time, {context.data(), pooled.data()}, out.data(), unet);
  picture_of(presets::tiny.sampler.prediction, level, z.data(), out.data(), latents);
  const auto found = model.draw({Renoise{}, 2, 1.0f}, {11});
  for (std::size_t i = 0; i < latents; ++i) CHECK(found[i] == Approx(out[i]).epsilon(1e-4).margin(1e-5));
}

TEST_CASE("a callback may answer nothing: then sampling goes on", "[sampling]") {
  std::size_t calls = 0;
  auto silent = [&](Progress p) { calls += p.step; };
  auto stops = [&](Progress p) { return p.step < 3; };
  auto counts = [&](const Progress& p) { return p.steps - p.step; };  // as any condition
  CHECK(detail::goes_on(silent, {2, 3}));
  CHECK(calls == 2);
  CHECK(detail::goes_on(stops, {2, 3}));
  CHECK_FALSE(detail::goes_on(stops, {3, 3}));
  CHECK(detail::goes_on(counts, {2, 3}));
  CHECK_FALSE(detail::goes_on(counts, {3, 3}));
}

}  // namespace test_sampling_cpp
