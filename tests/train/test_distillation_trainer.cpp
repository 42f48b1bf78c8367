// SPDX-License-Identifier: Apache-2.0
// Progressive distillation at toy size: what the student is asked for, the loss's gradient, rounds, exact resuming.
#include <cmath>
#include <cstdint>
#include <memory>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/sampling.hpp>
#include <mobilediffusion/train/distillation_trainer.hpp>
#include <mobilediffusion/train/initialize.hpp>
#include <vector>

#include "train/toy_data.hpp"
#include "train/trainer_checks.hpp"

namespace test_distillation_trainer_cpp {

using namespace mobilediffusion;

namespace {

// A network that puts out the picture itself: with zero filters before its output it is sure of one picture whatever it sees.
constexpr ModelConfig picture_model = [] {
  ModelConfig m = presets::tiny;
  m.sampler.prediction = Prediction::sample;
  return m;
}();

template <ModelConfig M>
struct Teacher {
  gradient_tests::Bound<typename TextEncoder<M.text>::Weights> text;
  gradient_tests::Bound<typename Unet<M.unet>::Weights> unet;
  Teacher() {
    train::initialize(*text, 3, {.zero_branches = false});
    gradient_tests::randomize(*unet, 4);
  }
};

using Trainer = train::DistillationTrainer<presets::tiny>;
using Data = trainer_tests::ToyData<presets::tiny>;

train::DistillationOptions options(std::size_t batch, std::size_t micro_batch, float guidance = 2.0f) {
  train::DistillationOptions o;
  o.batch = batch;
  o.micro_batch = micro_batch;
  o.sampling_steps = 4;
  o.guidance = guidance;
  o.optimizer.schedule = {.peak = 1e-3f, .warmup_steps = 5};
  return o;
}

}  // namespace

TEST_CASE("a student that knows what its teacher knows has nothing to learn", "[train][distillation]") {
  const Executor ex(1);
  const Data data;
  Teacher<picture_model> teacher;
  std::fill_n((*teacher.unet).conv_out.weight.data, (*teacher.unet).conv_out.weight.count, 0.0f);
  train::DistillationTrainer<picture_model> trainer(ex, options(8, 8), *teacher.text, *teacher.unet);
  const auto pictures = data.batch(8);
  const auto ids = data.tokens(8);
  const auto loss = [&] { return trainer.gradients(pictures, ids.data(), data.unconditional.data()); };
  for (int round = 0; round < 3; ++round) {
    CAPTURE(round);
    CHECK(loss().loss < 1e-6f);
    if (round < 2) trainer.halve();
  }
  CHECK(trainer.sampling_steps() == 1);
  // One step goes from noise to the picture: an error there counts as it is.
  for (std::size_t i = 0; i < 3; ++i) trainer.state.weights.conv_out.bias.data[i] += 0.5f;
  CHECK(loss().picture_error == Approx(0.25).epsilon(1e-3));
  CHECK(loss().loss == Approx(0.25).epsilon(1e-3));
}

TEST_CASE("an error of the noise counts where it is larger", "[train][distillation]") {
  const Executor ex(1);
  const Data data;
  Teacher<picture_model> teacher;
  std::fill_n((*teacher.unet).conv_out.weight.data, (*teacher.unet).conv_out.weight.count, 0.0f);
  train::DistillationOptions o = options(64, 64);
  o.sampling_steps = 4;
  train::DistillationTrainer<picture_model> trainer(ex, o, *teacher.text, *teacher.unet);
  for (std::size_t i = 0; i < 3; ++i) trainer.state.weights.conv_out.bias.data[i] += 0.5f;
  double expected = 0;  // over the four times of the student, a quarter of the batch each
  for (std::size_t i = 0; i < 4; ++i) {
    const NoiseLevel l = noise_level(picture_model.sampler.schedule, step_time(i, 4, 1.0f));
    const double snr = static_cast<double>(l.alpha * l.alpha) / static_cast<double>(l.sigma * l.sigma);
    expected += 0.25 * 0.25 * std::max(1.0, snr);
  }
  static_assert(picture_model.sampler.shift_percent == 100);
  const auto r = trainer.gradients(data.batch(64), data.tokens(64).data(), data.unconditional.data());
  CHECK(r.picture_error == Approx(0.25).epsilon(1e-3));
  CHECK(r.loss == Approx(expected).epsilon(1e-3));
}

TEST_CASE("one step of a perfect student is two of its teacher's, guidance included", "[train][distillation]") {
  // Learnt by heart: one picture, its caption, one step for the student; then both sample.
  const Executor ex(2);
  const Data data;
  const Teacher<presets::tiny> teacher;
  train::DistillationOptions o = options(16, 8, 3.0f);
  o.sampling_steps = 1;
  o.optimizer.schedule = {.peak = 4e-3f, .warmup_steps = 5, .decay_start = 200, .total_steps = 400};
  Trainer trainer(ex, o, *teacher.text, *teacher.unet);
  const auto pictures = data.batch(16);
  const auto ids = data.tokens(16);
  using Tiny = Sampling<presets::tiny>;
  const AlignedBuffer memory(Tiny::stack_floats(4));
  std::vector<std::int32_t> tokens = data.tokens(4);
  for (int i = 0; i < 4; ++i) tokens.insert(tokens.end(), data.unconditional.begin(), data.unconditional.end());
  const std::vector<std::uint64_t> seeds{1, 2, 3, 4};
  const auto draw = [&](const Unet<presets::tiny.unet>::Weights& w, std::size_t steps, float guidance) {
    Stack stack(memory);
    std::vector<float> z(4 * Tiny::latents);
    Tiny::run({ex, stack, 4, false}, *teacher.text, w, tokens.data(), seeds.data(), {Ddim{}, steps, guidance},
              z.data(), [](Progress) { return true; });
    return z;
  };
  const auto taught = draw(*teacher.unet, 2, 3.0f);
  const auto distance = [&](const std::vector<float>& z) {
    double sum = 0;
    for (std::size_t i = 0; i < z.size(); ++i) {
      const double d = static_cast<double>(z[i]) - static_cast<double>(taught[i]);
      sum += d * d;
    }
    return sum / static_cast<double>(z.size());
  };
  for (int i = 0; i < 400; ++i) trainer.step(pictures, ids.data(), data.unconditional.data());
  const double student = distance(draw(trainer.state.weights, 1, 1.0f));
  CHECK(student < 0.6 * distance(draw(*teacher.unet, 1, 1.0f)));
  CHECK(student < 0.6 * distance(draw(*teacher.unet, 1, 3.0f)));
  CHECK(student < 0.6 * distance(draw(*teacher.unet, 2, 1.0f)));
}

TEST_CASE("the distillation loss has its gradient", "[train][distillation]") {
  const Executor ex(2);
  const Data data;
  const Teacher<presets::tiny> teacher;
  const auto pictures = data.batch(8);
  const auto ids = data.tokens(8);
  Trainer trainer(ex, options(8, 4), *teacher.text, *teacher.unet);
  gradient_tests::randomize(trainer.state.weights, 5);
  const auto loss = [&] { return static_cast<double>(trainer.gradients(pictures, ids.data(), data.unconditional.data()).loss); };
  CHECK(trainer_tests::check_loss_gradient(trainer.state, loss, 0.02, 0.005) == "");
}

TEST_CASE("the student learns, round after round; only the first teacher is guided", "[train][distillation]") {
  const Executor ex(2);
  const Data data;
  const Teacher<presets::tiny> teacher;
  Trainer trainer(ex, options(16, 8), *teacher.text, *teacher.unet);
  const auto pictures = data.batch(16);
  const auto ids = data.tokens(16);
  const std::vector<std::int32_t> other(Data::length, 9);
  const auto loss = [&](const std::vector<std::int32_t>& unconditional) {
    return trainer.gradients(pictures, ids.data(), unconditional.data()).loss;
  };
  CHECK(loss(data.unconditional) != loss(other));
  for (std::size_t round = 0; round < 2; ++round) {
    CHECK(trainer.round() == round);
    CHECK(trainer.sampling_steps() == std::size_t{4} >> round);
    const float before = loss(data.unconditional);
    for (int i = 0; i < 80; ++i) trainer.step(pictures, ids.data(), data.unconditional.data());
    CHECK(loss(data.unconditional) < 0.7f * before);
    if (round == 0) trainer.halve();
    if (round == 0) CHECK(trainer.state.step == 0);
  }
  CHECK(loss(data.unconditional) == loss(other));
}

TEST_CASE("half precision teaches nearly the same", "[train][distillation]") {
  const Executor ex(1);
  const Data data;
  const Teacher<presets::tiny> teacher;
  const auto pictures = data.batch(8);
  const auto ids = data.tokens(8);
  const auto loss = [&](Format format) {
    train::DistillationOptions o = options(8, 8);
    o.teacher_format = format;
    return Trainer(ex, o, *teacher.text, *teacher.unet).gradients(pictures, ids.data(), data.unconditional.data()).loss;
  };
  CHECK(loss(Format::bf16) == Approx(loss(Format::fp32)).epsilon(0.05));
  CHECK(loss(Format::bf16) != loss(Format::fp32));
}

TEST_CASE("a resumed distillation is the same distillation, across rounds", "[train][distillation]") {
  const Data data;
  const Teacher<presets::tiny> teacher;
  const auto pictures = data.batch(4);
  const auto ids = data.tokens(4);
  trainer_tests::check_resume(
      [&](const Executor& ex) { return std::make_unique<Trainer>(ex, options(4, 2), *teacher.text, *teacher.unet); },
      [&](Trainer& t) {
        if (t.state.step == 2 && t.round() < 2) t.halve();  // after every two steps: the file is of a later round
        return t.step(pictures, ids.data(), data.unconditional.data()).loss;
      });
}

TEST_CASE("distillation refuses options and files that it cannot use", "[train][distillation]") {
  const Executor ex(1);
  const Data data;
  const Teacher<presets::tiny> teacher;
  const auto with = [&](auto&& change) {
    train::DistillationOptions o = options(4, 2);
    change(o);
    return error_of([&] { Trainer(ex, o, *teacher.text, *teacher.unet); });
  };
  expect(with([](auto& o) { o.micro_batch = 3; }), "multiple of the micro-batch");
  expect(with([](auto& o) { o.sampling_steps = 0; }), "at least 1 step");
  expect(with([](auto& o) { o.guidance = -1.0f; }), "expected a number of at least 0");
  Trainer trainer(ex, options(4, 2), *teacher.text, *teacher.unet);
  expect(error_of([&] { trainer.step(data.batch(3), data.tokens(3).data(), data.unconditional.data()); }), "as many latents");

  const TemporaryFolder folder;
  trainer.save(folder / "four");
  trainer.state.save(folder / "student");
  expect(error_of([&] { trainer.load(folder / "student"); }), "student.weights.conv_in.weight");
  train::DistillationOptions eight = options(4, 2);
  eight.sampling_steps = 8;
  Trainer other(ex, eight, *teacher.text, *teacher.unet);
  expect(error_of([&] { other.load(folder / "four"); }), "began with 8 steps, found 4 in round 0");
  Metadata wrapped;  // 2^63 + 4 steps, doubled once, are 8 in 64 bits
  std::vector<TensorToWrite> tensors;
  const SafetensorsFile four(folder / "four");
  wrapped = four.metadata();
  wrapped["round"] = "1";
  wrapped["sampling_steps"] = "9223372036854775812";
  other.state.list(tensors, "student.");
  list_weights(tensors, "teacher.", *teacher.unet, Dtype::f32);
  write_safetensors(folder / "wrapped", tensors, wrapped);
  expect(error_of([&] { other.load(folder / "wrapped"); }), "began with 8 steps, found 9223372036854775812 in round 1");
  other.halve();
  other.save(folder / "halved");
  Trainer again(ex, eight, *teacher.text, *teacher.unet);
  again.load(folder / "halved");
  CHECK(again.sampling_steps() == 4);
  CHECK(again.round() == 1);
  again.halve();
  again.halve();
  expect(error_of([&] { again.halve(); }), "expected an even number of steps to halve, found 1");
}

}  // namespace test_distillation_trainer_cpp
