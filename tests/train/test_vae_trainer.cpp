// SPDX-License-Identifier: Apache-2.0
// Training of the autoencoder at toy size: the loss falls, resuming is exact, every term of the loss has its gradient.
#include <cmath>
#include <memory>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/train/vae_trainer.hpp>
#include <vector>

#include "train/trainer_checks.hpp"

namespace test_vae_trainer_cpp {

using namespace mobilediffusion;

namespace {

// quant_conv off, as normalize_latents asks for it.
constexpr VaeConfig small = [] {
  VaeConfig c = presets::tiny.vae;
  c.quant_conv = false;
  return c;
}();
using Trainer = train::VaeTrainer<small>;
using Model = Vae<small>;
constexpr std::size_t batch = 4;

// Coloured bars and gradients: something that can be learnt.
std::vector<float> pictures(std::size_t count = batch) {
  std::vector<float> out;
  for (std::size_t b = 0; b < count; ++b)
    for (std::size_t y = 0; y < small.height; ++y)
      for (std::size_t x = 0; x < small.width; ++x)
        for (std::size_t k = 0; k < 3; ++k) {
          const bool bar = (x / 4 + b) % 3 == k;
          out.push_back(bar ? 0.8f : -0.9f + 0.05f * static_cast<float>(y));
        }
  return out;
}

train::VaeOptions options() {
  train::VaeOptions o;
  o.batch = batch;
  o.micro_batch = 2;
  o.optimizer.schedule.peak = 3e-3f;
  o.optimizer.adamw.weight_decay = 0.0f;
  return o;
}

}  // namespace

TEST_CASE("the autoencoder learns", "[train][vae]") {
  const Executor ex(2);
  Trainer trainer(ex, options());
  const std::vector<float> x = pictures();
  const train::VaeReport first = trainer.step(x.data());
  train::VaeReport last;
  for (int i = 0; i < 120; ++i) last = trainer.step(x.data());
  CHECK(first.mse > 0.3f);
  CHECK(last.loss < 0.4f * first.loss);
  CHECK(last.mse < 0.15f * first.mse);
  CHECK(last.step.learning_rate == 3e-3f);

  // The averaged weights reconstruct as well.
  std::vector<float> z(batch * Model::latent_floats), y(x.size());
  trainer.encode(x.data(), batch, z.data());
  trainer.decode(z.data(), batch, y.data());
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) error += static_cast<double>((x[i] - y[i]) * (x[i] - y[i]));
  CHECK(error / static_cast<double>(x.size()) < 0.3 * static_cast<double>(first.mse));
}

TEST_CASE("a wide up-sampling convolution trains: the way back takes more memory than the way there", "[train][vae]") {
  constexpr VaeConfig wide{.height = 4,
                           .width = 4,
                           .latent_channels = 4,
                           .levels = 2,
                           .encoder_channels = {8, 8},
                           .decoder_channels = {8, 640},
                           .encoder_resnets = 1,
                           .decoder_resnets = 1,
                           .middle = false,
                           .middle_attention = false,
                           .quant_conv = false,
                           .groups = 4};
  const Executor ex = Executor::oversubscribed(2);
  train::VaeOptions o;
  o.batch = 2;
  o.micro_batch = 1;
  train::VaeTrainer<wide> trainer(ex, o);
  std::vector<float> x(2 * Vae<wide>::picture_floats, 0.5f);
  CHECK(std::isfinite(trainer.gradients(x.data()).loss));
  double norm = 0;
  for (const float g : std::span(trainer.state.gradients.decoder.conv_in.weight.data, trainer.state.gradients.decoder.conv_in.weight.count))
    norm += static_cast<double>(g) * static_cast<double>(g);
  CHECK(norm > 0);
}

TEST_CASE("a trainer keeps no executor that ends before it", "[train][vae]") {
  static_assert(std::is_constructible_v<Trainer, const Executor&, train::VaeOptions>);
  static_assert(!std::is_constructible_v<Trainer, Executor, train::VaeOptions>);
}

TEST_CASE("a resumed training of the autoencoder is the same training", "[train][vae]") {
  const std::vector<float> x = pictures(2 * batch);
  trainer_tests::check_resume(
      [](const Executor& ex) { return std::make_unique<Trainer>(ex, options()); },
      [&](Trainer& t) { return t.step(x.data() + t.state.step % 2 * batch * Model::picture_floats).loss; });
}

TEST_CASE("normalized latents have unit deviation and decode to the same pictures", "[train][vae]") {
  const Executor ex(1);
  Trainer trainer(ex, options());
  const std::vector<float> x = pictures();
  for (int i = 0; i < 5; ++i) trainer.step(x.data());
  const std::size_t n = batch * Model::latent_floats;
  std::vector<float> z(n), y(x.size()), unit(n), again(x.size());
  const auto deviation = [&](const std::vector<float>& v) {
    double square = 0;
    for (const float f : v) square += static_cast<double>(f) * static_cast<double>(f);
    return std::sqrt(square / static_cast<double>(v.size()));
  };
  trainer.encode(x.data(), batch, z.data());
  trainer.decode(z.data(), batch, y.data());
  const train::VaeReport before = trainer.gradients(x.data());
  const double size = deviation(z);
  CHECK(size != Approx(1.0).epsilon(0.01));
  trainer.normalize_latents(static_cast<float>(size));
  trainer.encode(x.data(), batch, unit.data());
  trainer.decode(unit.data(), batch, again.data());
  CHECK(deviation(unit) == Approx(1.0).epsilon(1e-4));
  double most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) most = std::max(most, static_cast<double>(std::fabs(y[i] - again[i])));
  CHECK(most < 1e-4);
  // The training weights went along, and so did the posterior's variance: the sampled reconstruction is the same.
  const train::VaeReport after = trainer.gradients(x.data());
  CHECK(after.mse == Approx(before.mse).epsilon(1e-3));
  CHECK(after.latent_deviation == Approx(before.latent_deviation / size).epsilon(1e-3));
}

TEST_CASE("every term of the autoencoder's loss has its gradient", "[train][vae]") {
  const Executor ex(2);
  const std::vector<float> x = pictures();
  struct Term {
    const char* name;
    float absolute, edges, squared, kl;
    double tolerance;
  };
  // Absolute values have kinks: their differences are less exact.
  for (const Term& t : {Term{"squared", 0, 0, 1, 0, 0.005}, Term{"kl", 0, 0, 0, 1, 0.005}, Term{"absolute", 1, 0, 0, 0, 0.03},
                        Term{"edges", 0, 1, 0, 0, 0.03}, Term{"all", 1.0f, 0.5f, 0.3f, 0.1f, 0.03}}) {
    train::VaeOptions o = options();
    o.absolute = t.absolute;
    o.edges = t.edges;
    o.squared = t.squared;
    o.kl = t.kl;
    o.latent_noise = 0.0f;  // its size is a constant to the gradient, but not to differences
    Trainer trainer(ex, o);
    gradient_tests::randomize(trainer.state.weights, 4);
    // Log variances near zero, where they are inside the clamp.
    for (std::size_t i = 0; i < trainer.state.weights.encoder.conv_out.weight.count; ++i)
      trainer.state.weights.encoder.conv_out.weight.data[i] *= 0.3f;
    INFO(t.name);
    const bool decodes = t.kl != 1.0f;  // the pull of the posterior alone ends in the encoder
    const std::string faults = trainer_tests::check_loss_gradient(
        trainer.state, [&] { return static_cast<double>(trainer.gradients(x.data()).loss); }, 0.02, t.tolerance, decodes);
    CHECK(faults == "");
  }
}

TEST_CASE("the autoencoder's gradient is the same whatever the micro-batch", "[train][vae]") {
  const Executor ex(2);
  const std::vector<float> x = pictures();
  double losses[2], norms[2];
  for (const std::size_t k : {0u, 1u}) {
    train::VaeOptions o = options();
    o.micro_batch = k == 0 ? 4 : 1;
    o.latent_noise = 0.0f;  // its size depends on the latents of the pass
    Trainer trainer(ex, o);
    gradient_tests::randomize(trainer.state.weights, 3);
    losses[k] = static_cast<double>(trainer.gradients(x.data()).loss);
    norms[k] = 0;
    reflect::visit(trainer.state.gradients, [&]<class Leaf>(std::string_view, Leaf& leaf) {
      for (std::size_t i = 0; i < Leaf::count; ++i) norms[k] += static_cast<double>(leaf.data[i]) * static_cast<double>(leaf.data[i]);
    });
  }
  CHECK(losses[1] == Approx(losses[0]).epsilon(1e-5));
  CHECK(norms[1] == Approx(norms[0]).epsilon(1e-4));
  train::VaeOptions wrong = options();
  wrong.micro_batch = 3;
  CHECK_THROWS_AS(Trainer(ex, wrong), Error);
}

TEST_CASE("with a frozen encoder the decoder alone learns", "[train][vae]") {
  const Executor ex(2);
  const std::vector<float> x = pictures();
  train::VaeOptions o = options();
  o.freeze_encoder = true;
  o.optimizer.adamw.weight_decay = 0.1f;  // must not reach the encoder either
  Trainer trainer(ex, o), whole(ex, options());
  trainer.gradients(x.data());
  whole.gradients(x.data());
  const auto bytes = [](auto& weights, bool encoder) {
    std::vector<float> out;
    reflect::visit(weights, [&]<class Leaf>(std::string_view name, Leaf& leaf) {
      if (name.starts_with("encoder.") == encoder) out.insert(out.end(), leaf.data, leaf.data + Leaf::count);
    });
    return out;
  };
  CHECK(bytes(trainer.state.gradients, false) == bytes(whole.state.gradients, false));
  const std::vector<float> encoder = bytes(trainer.state.weights, true), decoder = bytes(trainer.state.weights, false);
  const train::VaeReport first = trainer.step(x.data());
  train::VaeReport last;
  for (int i = 0; i < 100; ++i) last = trainer.step(x.data());
  CHECK(bytes(trainer.state.weights, true) == encoder);
  CHECK(bytes(trainer.state.average, true) == encoder);
  CHECK(bytes(trainer.state.weights, false) != decoder);
  CHECK(last.mse < 0.5f * first.mse);
}

}  // namespace test_vae_trainer_cpp
