// SPDX-License-Identifier: Apache-2.0
// Training of UNet and text encoder at toy size: the loss falls, resuming is exact, the loss has its gradient.
#include <cmath>
#include <cstdint>
#include <memory>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/train/diffusion_trainer.hpp>
#include <vector>

#include "train/toy_data.hpp"
#include "train/trainer_checks.hpp"

namespace test_diffusion_trainer_cpp {

using namespace mobilediffusion;

namespace {

using Trainer = train::DiffusionTrainer<presets::tiny>;
using Data = trainer_tests::ToyData<presets::tiny>;
constexpr std::size_t length = presets::tiny.text.length;

train::DiffusionOptions options(std::size_t batch, std::size_t micro_batch) {
  train::DiffusionOptions o;
  o.batch = batch;
  o.micro_batch = micro_batch;
  o.optimizer.schedule = {.peak = 4e-3f, .warmup_steps = 5};
  return o;
}

}  // namespace

TEST_CASE("the diffusion model learns", "[train][diffusion]") {
  const Executor ex(2);
  const Data data;
  Trainer trainer(ex, options(16, 8));
  const auto pictures = data.batch(16);
  const auto ids = data.tokens(16);
  const auto mean_of_steps = [&](int steps) {
    double sum = 0;
    for (int i = 0; i < steps; ++i)
      sum += static_cast<double>(trainer.step(pictures, ids.data(), data.unconditional.data()).loss);
    return sum / steps;
  };
  const train::DiffusionReport first = trainer.gradients(pictures, ids.data(), data.unconditional.data());
  CHECK(first.loss == Approx(1.0).epsilon(0.2));  // its last layer is zero: it predicts nothing of a target of variance 1
  std::size_t samples = 0;
  for (const std::size_t n : first.band_samples) samples += n;
  CHECK(samples == 16);
  CHECK(trainer.state.step == 0);
  mean_of_steps(120);
  CHECK(mean_of_steps(20) < 0.5);
  CHECK(trainer.state.step == 140);
}

TEST_CASE("a resumed training of the diffusion model is the same training", "[train][diffusion]") {
  const Data data;
  const auto pictures = data.batch(4);
  const auto ids = data.tokens(4);
  trainer_tests::check_resume([](const Executor& ex) { return std::make_unique<Trainer>(ex, options(4, 2)); },
                              [&](Trainer& t) { return t.step(pictures, ids.data(), data.unconditional.data()).loss; });
}

TEST_CASE("the diffusion loss has its gradient, whatever the micro-batch", "[train][diffusion]") {
  const Executor ex(2);
  const Data data;
  const auto pictures = data.batch(8);
  const auto ids = data.tokens(8);
  float loss = 0, norm = 0;
  for (const std::size_t micro_batch : {std::size_t{8}, std::size_t{4}}) {
    Trainer trainer(ex, options(8, micro_batch));
    gradient_tests::randomize(trainer.state.weights, 4);
    const auto gradients = [&] {
      return static_cast<double>(trainer.gradients(pictures, ids.data(), data.unconditional.data()).loss);
    };
    if (micro_batch == 8) CHECK(trainer_tests::check_loss_gradient(trainer.state, gradients, 0.02, 0.005) == "");
    const auto found = static_cast<float>(gradients());
    double square = 0;
    reflect::visit(trainer.state.gradients, [&]<class Leaf>(std::string_view, Leaf& leaf) {
      for (std::size_t i = 0; i < Leaf::count; ++i)
        square += static_cast<double>(leaf.data[i]) * static_cast<double>(leaf.data[i]);
    });
    if (micro_batch == 4) {
      CHECK(found == Approx(loss).epsilon(1e-5));
      CHECK(std::sqrt(square) == Approx(norm).epsilon(1e-4));
    }
    loss = found;
    norm = static_cast<float>(std::sqrt(square));
  }
}

TEST_CASE("captions are dropped as often as asked", "[train][diffusion]") {
  // With every caption dropped the captions cannot matter; with none dropped the unconditional tokens cannot.
  const Executor ex(1);
  const Data data;
  const auto pictures = data.batch(4);
  const auto ids = data.tokens(4);
  const std::vector<std::int32_t> other(4 * length, 9), other_unconditional(length, 9);
  const auto loss = [&](float dropout, const std::vector<std::int32_t>& captions,
                        const std::vector<std::int32_t>& unconditional) {
    train::DiffusionOptions o = options(4, 4);
    o.caption_dropout = dropout;
    Trainer trainer(ex, o);
    gradient_tests::randomize(trainer.state.weights, 4);
    return trainer.gradients(pictures, captions.data(), unconditional.data()).loss;
  };
  CHECK(loss(1.0f, ids, data.unconditional) == loss(1.0f, other, data.unconditional));
  CHECK(loss(1.0f, ids, data.unconditional) != loss(1.0f, ids, other_unconditional));
  CHECK(loss(0.0f, ids, data.unconditional) == loss(0.0f, ids, other_unconditional));
  CHECK(loss(0.0f, ids, data.unconditional) != loss(0.0f, other, data.unconditional));
}

TEST_CASE("a batch that its micro-batch does not divide is refused", "[train][diffusion]") {
  const Executor ex(1);
  CHECK_THROWS_AS(Trainer(ex, options(4, 3)), Error);
  CHECK_THROWS_AS(Trainer(ex, options(4, 0)), Error);
  CHECK_THROWS_AS(Trainer(ex, options(0, 1)), Error);
  Trainer trainer(ex, options(4, 2));
  const Data data;
  const auto pictures = data.batch(3);
  const auto ids = data.tokens(3);
  expect(error_of([&] { trainer.step(pictures, ids.data(), data.unconditional.data()); }), "as many latents");
}

}  // namespace test_diffusion_trainer_cpp
