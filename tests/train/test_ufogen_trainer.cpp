// SPDX-License-Identifier: Apache-2.0
// UFOGen at toy size: both losses have their gradients, the adversarial one through the discriminator; resuming is exact; one
// step from noise learns the pictures.
#include <cmath>
#include <cstdint>
#include <memory>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/sampling.hpp>
#include <mobilediffusion/train/initialize.hpp>
#include <mobilediffusion/train/ufogen_trainer.hpp>
#include <vector>

#include "train/toy_data.hpp"
#include "train/trainer_checks.hpp"

namespace test_ufogen_trainer_cpp {

using namespace mobilediffusion;

namespace {

using Trainer = train::UfogenTrainer<presets::tiny>;
using Net = Unet<presets::tiny.unet>;
using Data = trainer_tests::ToyData<presets::tiny>;

// The discriminator is the same network but for its last layer, of one channel instead of three.
static_assert(Net::parameters - Discriminator<presets::tiny.unet>::parameters == 2 * (8 * 9 + 1));
static_assert(Net::macs - Discriminator<presets::tiny.unet>::macs == 2 * (8 * 9) * 8 * 4);
static_assert(Discriminator<presets::tiny.unet>::output_floats == 8 * 4);

// The model that finetuning starts from.
struct Base {
  gradient_tests::Bound<TextEncoder<presets::tiny.text>::Weights> text;
  gradient_tests::Bound<Net::Weights> unet;
  Base() {
    train::initialize(*text, 3, {.zero_branches = false});
    gradient_tests::randomize(*unet, 4);
  }
};

train::UfogenOptions options(std::size_t batch, std::size_t micro_batch) {
  train::UfogenOptions o;
  o.batch = batch;
  o.micro_batch = micro_batch;
  o.generator.schedule = {.peak = 2e-3f, .warmup_steps = 5};
  o.discriminator.schedule = {.peak = 1e-3f, .warmup_steps = 5};
  return o;
}

}  // namespace

TEST_CASE("the generator's loss has its gradient, the adversarial part alone as well", "[train][ufogen]") {
  const Executor ex(2);
  const Data data;
  const Base base;
  const auto pictures = data.batch(8);
  const auto ids = data.tokens(8);
  for (const float lambda : {0.0f, 0.5f}) {
    train::UfogenOptions o = options(8, 4);
    o.reconstruction = lambda;
    o.signal_power = 1.0f;
    Trainer trainer(ex, o, *base.text, *base.unet);
    gradient_tests::randomize(trainer.discriminator.weights, 5);  // it has learnt something: its last layer is not zero
    const auto loss = [&] { return static_cast<double>(trainer.gradients(pictures, ids.data(), false).generator_loss); };
    CAPTURE(lambda);
    CHECK(trainer_tests::check_loss_gradient(trainer.generator, loss, 0.02, 0.01) == "");
    if (lambda == 0.0f) CHECK(trainer.gradients(pictures, ids.data(), false).reconstruction > 0.0f);
  }
}

TEST_CASE("the discriminator's loss has its gradient", "[train][ufogen]") {
  const Executor ex(2);
  const Data data;
  const Base base;
  const auto pictures = data.batch(8);
  const auto ids = data.tokens(8);
  Trainer trainer(ex, options(8, 4), *base.text, *base.unet);
  gradient_tests::randomize(trainer.discriminator.weights, 5);
  const auto loss = [&] { return static_cast<double>(trainer.gradients(pictures, ids.data(), true).discriminator_loss); };
  CHECK(trainer_tests::check_loss_gradient(trainer.discriminator, loss, 0.02, 0.01) == "");
}

TEST_CASE("losses and gradients do not depend on the micro-batch", "[train][ufogen]") {
  const Executor ex(1);
  const Data data;
  const Base base;
  const auto pictures = data.batch(8);
  const auto ids = data.tokens(8);
  const auto run = [&](std::size_t micro_batch) {
    Trainer trainer(ex, options(8, micro_batch), *base.text, *base.unet);
    gradient_tests::randomize(trainer.discriminator.weights, 5);
    const train::UfogenReport r = trainer.gradients(pictures, ids.data(), true);
    std::vector<double> out{r.generator_loss, r.adversarial,        r.reconstruction, r.one_step_error,
                            r.logit_fake,     r.discriminator_loss, r.logit_real,     r.accuracy};
    for (const auto& leaf : reflect::leafs(trainer.generator.gradients)) out.push_back(leaf.data()[0]);
    for (const auto& leaf : reflect::leafs(trainer.discriminator.gradients)) out.push_back(leaf.data()[0]);
    return out;
  };
  const std::vector<double> whole = run(8), halves = run(4);
  for (std::size_t i = 0; i < whole.size(); ++i) CHECK(halves[i] == Approx(whole[i]).epsilon(1e-3).margin(1e-6));
}

TEST_CASE("the discriminator starts from the generator and knows nothing", "[train][ufogen]") {
  const Executor ex(1);
  const Data data;
  const Base base;
  Trainer trainer(ex, options(4, 2), *base.text, *base.unet);
  const auto of = reflect::leafs(*base.unet), generator = reflect::leafs(trainer.generator.weights),
             discriminator = reflect::leafs(trainer.discriminator.weights);
  REQUIRE(discriminator.size() == of.size());
  for (std::size_t i = 0; i < of.size(); ++i) {
    CAPTURE(of[i].path);
    CHECK(discriminator[i].path == of[i].path);
    CHECK(std::equal(of[i].data(), of[i].data() + of[i].type->count, generator[i].data()));
    if (of[i].path.rfind("conv_out", 0) != 0)
      CHECK(std::equal(of[i].data(), of[i].data() + of[i].type->count, discriminator[i].data()));
  }
  const train::UfogenReport r = trainer.gradients(data.batch(4), data.tokens(4).data(), true);
  CHECK(r.adversarial == Approx(std::log(2.0)));
  CHECK(r.discriminator_loss == Approx(2.0 * std::log(2.0)));
  CHECK(r.logit_fake == 0.0f);
  CHECK(r.logit_real == 0.0f);
  CHECK(r.accuracy == 0.0f);
}

TEST_CASE("a resumed UFOGen training is the same training", "[train][ufogen]") {
  const Data data;
  const Base base;
  const auto pictures = data.batch(4);
  const auto ids = data.tokens(4);
  trainer_tests::check_resume(
      [&](const Executor& ex) { return std::make_unique<Trainer>(ex, options(4, 2), *base.text, *base.unet); },
      [&](Trainer& t) {
        const train::UfogenReport r = t.step(pictures, ids.data());
        CHECK(r.judged == (t.generator.step % 2 == 1));
        CHECK(t.discriminator.step == (t.generator.step + 1) / 2);
        return r.generator_loss;
      });
}

TEST_CASE("UFOGen learns to draw from pure noise in one step", "[train][ufogen]") {
  const Executor ex(2);
  const Data data;
  const Base base;
  train::UfogenOptions o = options(16, 8);
  Trainer trainer(ex, o, *base.text, *base.unet);
  const auto pictures = data.batch(16);
  const auto ids = data.tokens(16);
  const auto error = [&](int steps) {
    double sum = 0;
    std::size_t samples = 0;
    for (int i = 0; i < steps; ++i) {
      const train::UfogenReport r = trainer.step(pictures, ids.data());
      sum += static_cast<double>(r.one_step_error) * static_cast<double>(r.one_step_samples);
      samples += r.one_step_samples;
    }
    return sum / static_cast<double>(samples);
  };
  const double before = error(5);
  error(150);
  CHECK(error(20) < 0.3 * before);
}

TEST_CASE("goals take the place of the pictures: a sampler's own for its own noise leave no error", "[train][ufogen]") {
  const Executor ex(1);
  const Data data;
  const Base base;
  constexpr std::size_t n = 16, latents = Data::latents;
  train::UfogenOptions o = options(n, 8);
  o.sampler_share = 1.0f;
  Trainer trainer(ex, o, *base.text, *base.unet);
  const auto pictures = data.batch(n);
  const auto ids = data.tokens(n);
  trainer.step(pictures, ids.data());  // the next step's noise is not the first's

  using Sampler = Sampling<presets::tiny>;
  const AlignedBuffer memory(Sampler::stack_floats(n));
  Stack stack(memory);
  const Context c{ex, stack, n, false};
  std::vector<std::int32_t> captions = ids;
  captions.insert(captions.end(), ids.begin(), ids.end());
  std::vector<std::uint64_t> seeds;
  for (std::size_t i = 0; i < n; ++i) seeds.push_back(trainer.noise_seed(i));
  std::vector<float> drawn(n * latents);
  REQUIRE(Sampler::run(c, *base.text, trainer.generator.weights, captions.data(), seeds.data(), {Renoise{}, 1, 1.0f},
                       drawn.data(), [](Progress) { return true; }));
  std::vector<const float*> goals(n, nullptr);
  std::size_t from_noise = 0;
  for (std::size_t i = 0; i < n; ++i)
    if (trainer.from_noise(i)) goals[i] = &drawn[i * latents], ++from_noise;

  const train::UfogenReport with = trainer.gradients(pictures, ids.data(), true, goals),
                            without = trainer.gradients(pictures, ids.data(), true);
  CHECK(from_noise > 0);
  CHECK(from_noise < n);
  CHECK(with.one_step_samples == from_noise);
  CHECK(with.one_step_error < 1e-6f);
  CHECK(without.one_step_error > 0.1f);
  CHECK(with.reconstruction > 0.0f);  // of the samples without a goal
  CHECK(with.reconstruction < without.reconstruction);
  CHECK(with.adversarial == without.adversarial);  // what is real and what is fake stays
  CHECK(with.discriminator_loss == without.discriminator_loss);
  goals.pop_back();
  expect(error_of([&] { trainer.step(pictures, ids.data(), goals); }), "as many latents");
}

TEST_CASE("the discriminator learns to tell", "[train][ufogen]") {
  const Executor ex(2);
  const Data data;
  const Base base;
  train::UfogenOptions o = options(16, 8);
  o.generator.schedule.peak = 0.0f;  // an opponent that stands still
  o.discriminator_every = 1;
  Trainer trainer(ex, o, *base.text, *base.unet);
  const auto pictures = data.batch(16);
  const auto ids = data.tokens(16);
  train::UfogenReport r;
  for (int i = 0; i < 150; ++i) r = trainer.step(pictures, ids.data());
  CHECK(r.judged);
  CHECK(r.accuracy > 0.7f);
  CHECK(r.logit_real > 0.0f);
  CHECK(r.logit_fake < 0.0f);
  CHECK(r.discriminator_loss < 1.2f);
  CHECK(r.adversarial > 0.8f);
}

TEST_CASE("as many samples as asked have the sampler's own times", "[train][ufogen]") {
  const Executor ex(1);
  const Data data;
  const Base base;
  const auto pictures = data.batch(60);
  const auto ids = data.tokens(60);
  const auto pure_noise = [&](float share) {
    train::UfogenOptions o = options(60, 60);
    o.sampler_share = share;
    Trainer trainer(ex, o, *base.text, *base.unet);
    return trainer.gradients(pictures, ids.data(), false).one_step_samples;
  };
  CHECK(pure_noise(0.0f) == 0);
  CHECK(pure_noise(1.0f) > 25);  // 7 in 12 begin at pure noise: all of one step, half of two, a quarter of four
  CHECK(pure_noise(1.0f) < 45);
  CHECK(pure_noise(0.5f) < pure_noise(1.0f));
}

TEST_CASE("UFOGen refuses options and files that it cannot use", "[train][ufogen]") {
  const Executor ex(1);
  const Data data;
  const Base base;
  const auto with = [&](auto&& change) {
    train::UfogenOptions o = options(4, 2);
    change(o);
    return error_of([&] { Trainer(ex, o, *base.text, *base.unet); });
  };
  expect(with([](auto& o) { o.micro_batch = 3; }), "multiple of the micro-batch");
  expect(with([](auto& o) { o.batch = 0; }), "multiple of the micro-batch");
  expect(with([](auto& o) { o.intervals = 0; }), "at least 1");
  expect(with([](auto& o) { o.discriminator_every = 0; }), "at least 1");
  Trainer trainer(ex, options(4, 2), *base.text, *base.unet);
  expect(error_of([&] { trainer.step(data.batch(3), data.tokens(3).data()); }), "as many latents");

  const TemporaryFolder folder;
  trainer.save(folder / "whole");
  trainer.generator.save(folder / "generator");
  expect(error_of([&] { trainer.load(folder / "generator"); }), "generator.weights.conv_in.weight");
  trainer.step(data.batch(4), data.tokens(4).data());
  trainer.save(folder / "before");
  auto metadata = SafetensorsFile(folder / "whole").metadata();
  std::vector<TensorToWrite> tensors;
  trainer.generator.list(tensors, "generator.");
  trainer.discriminator.list(tensors, "discriminator.");
  tensors.pop_back();
  write_safetensors(folder / "cut", tensors, metadata);
  expect(error_of([&] { trainer.load(folder / "cut"); }), "discriminator.second_moment.conv_out.bias");
  metadata["discriminator.step"] = "two";
  tensors.clear();
  trainer.generator.list(tensors, "generator.");
  trainer.discriminator.list(tensors, "discriminator.");
  write_safetensors(folder / "words", tensors, metadata);
  expect(error_of([&] { trainer.load(folder / "words"); }), "discriminator.step: expected a number");
  trainer.save(folder / "after");
  const bool untouched = read_file(folder / "after") == read_file(folder / "before");
  CHECK(untouched);
}

}  // namespace test_ufogen_trainer_cpp
