// SPDX-License-Identifier: Apache-2.0
// Every sampler against diffusers' own schedulers: times, and latents after every step (golden/samplers.json, made by
// twin/samplers.py). Read from scheduler_config.json as a folder has it, so that defaults and options are compared, too.
#include <cmath>
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/diffusion/samplers.hpp>
#include <mobilediffusion/scheduler_config.hpp>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "../io/temporary_folder.hpp"
#include "catch.hpp"

namespace test_samplers_cpp {

using namespace mobilediffusion;
using nlohmann::json;

namespace {

constexpr std::size_t count = 4;
const json& golden() {
  static const json file = json::parse(read_file(MOBILEDIFFUSION_TEST_DATA "/samplers.json"));
  return file;
}

// The functions of twin/samplers.py.
float noise_at(std::size_t i, std::size_t draw) {
  return static_cast<float>(1.5 * std::sin(2.3 * static_cast<double>(i + 1) + 4.1 * static_cast<double>(draw + 1)));
}
float start_noise(std::size_t i) { return static_cast<float>(1.3 * std::sin(1.7 * static_cast<double>(i) + 0.3)); }
float picture(std::size_t i) { return static_cast<float>(std::cos(0.9 * static_cast<double>(i))); }
float network(float z, float t, std::size_t i) {
  return static_cast<float>(
      std::tanh(0.7 * static_cast<double>(z) + 0.1 * static_cast<double>(t) / 1000 + 0.05 * static_cast<double>(i) - 0.1));
}

struct Run {
  std::vector<float> times;
  std::vector<std::vector<float>> latents;
  std::size_t draws = 0;
};
// noise_left(z, step, scratch) is told what a step left.
template <class After>
Run run(const Sampler& sampler, const NoiseSchedule& schedule, Prediction prediction, const Course& c, bool from_picture,
        After&& after) {
  check_course(sampler, c);
  Run r;
  std::vector<float> z(count), output(count), scratch(count, NAN), memory(remembered_by_any * count, NAN);
  for (std::size_t i = 0; i < count; ++i) {
    const NoiseLevel start = start_of(sampler, schedule, c);
    z[i] = from_picture ? static_cast<float>(start.alpha) * picture(i) + static_cast<float>(start.sigma) * start_noise(i)
                        : static_cast<float>(noise_scale(sampler, schedule, c)) * start_noise(i);
  }
  r.latents.push_back(z);
  for (std::size_t pass = 0; pass < passes(sampler, c); ++pass) {
    const SamplingStep at = step_at(sampler, schedule, c, pass);
    r.times.push_back(at.time);
    for (std::size_t i = 0; i < count; ++i) output[i] = network(z[i], at.time, i);
    const std::vector<float> before = z;
    sampler_step(
        sampler, schedule, c, prediction, pass, output.data(), z.data(), memory.data(), scratch.data(),
        [&](float* into) {
          for (std::size_t i = 0; i < count; ++i) into[i] = noise_at(i, r.draws);
          ++r.draws;
        },
        count);
    after(at, before, output, z, scratch);
    r.latents.push_back(z);
  }
  return r;
}
constexpr auto nothing = [](const auto&...) {};

struct Reader {
  TemporaryFolder folder;
  SchedulerConfig operator()(const json& config, Prediction prediction) const {
    SamplerConfig c = presets::sd15.sampler;
    c.prediction = prediction;
    write_file(folder / "scheduler_config.json", config.dump());
    return read_scheduler_config(folder / "scheduler_config.json", c);
  }
};
Prediction prediction_of(const json& config) {
  const std::string name = config.value("prediction_type", "epsilon");
  return name == "epsilon" ? Prediction::epsilon : name == "sample" ? Prediction::sample : Prediction::v;
}

}  // namespace

TEST_CASE("samplers visit the times and go through the latents of diffusers", "[diffusion][golden]") {
  const Reader read;
  std::set<std::string_view> compared;
  for (const json& golden_case : golden().at("cases")) {
    INFO(golden_case.at("config").dump() << " steps " << golden_case.at("steps") << " strength "
                                         << golden_case.value("strength", 1.0) << " eta " << golden_case.value("eta", -1.0));
    const Prediction prediction = prediction_of(golden_case.at("config"));
    SchedulerConfig config = read(golden_case.at("config"), prediction);
    REQUIRE(config.note.empty());
    if (golden_case.contains("eta")) set_eta(config.sampler, golden_case.at("eta").get<float>());
    compared.insert(name_of(config.sampler));
    const bool from_picture = golden_case.contains("strength");
    const Course c{golden_case.at("steps").get<std::size_t>(), golden_case.value("strength", 1.0f)};
    const Run found = run(config.sampler, config.schedule, prediction, c, from_picture, nothing);
    const json &times = golden_case.at("times"), &latents = golden_case.at("latents");
    REQUIRE(found.times.size() == times.size());
    double worst_time = 0, worst = 0;
    for (std::size_t k = 0; k < times.size(); ++k)
      worst_time = std::max(worst_time, std::abs(times[k].get<double>() - static_cast<double>(found.times[k])));
    CHECK(worst_time < 1e-3);
    for (std::size_t k = 0; k < latents.size(); ++k)
      for (std::size_t i = 0; i < count; ++i) {
        const double expected = latents[k][i].get<double>(), got = static_cast<double>(found.latents[k][i]);
        CAPTURE(k, i, expected, got);
        const double error = std::abs(expected - got) / std::max(1.0, std::abs(expected));
        if (!(error <= 1e-5)) CHECK(error <= 1e-5);
        worst = std::max(worst, error);
      }
    CHECK(worst <= 1e-5);
  }
  // Those that diffusers has: all of the list but UFOGen's, which the next case does by hand.
  for_each_sampler([&]<class S>() {
    INFO(S::name);
    CHECK(compared.contains(S::name) == (S::name != Renoise::name));
  });
}

TEST_CASE("UFOGen's sampler in figures, on a discrete grid", "[diffusion]") {
  const NoiseSchedule schedule(BetaSchedule::scaled_linear, 0.00085, 0.012);
  const Sampler sampler = Renoise{.spacing = Spacing::trailing};
  const Run found = run(sampler, schedule, Prediction::sample, {.steps = 2}, false, nothing);
  CHECK(found.times == std::vector<float>{999, 499});
  CHECK(found.draws == 1);
  for (std::size_t i = 0; i < count; ++i) {
    const float x = network(start_noise(i), 999, i);
    const auto middle = static_cast<float>(schedule.level(499).alpha * static_cast<double>(x) +
                                           schedule.level(499).sigma * static_cast<double>(noise_at(i, 0)));
    CHECK(found.latents[1][i] == Approx(middle));
    CHECK(found.latents[2][i] == Approx(network(middle, 499, i)));
  }
}

TEST_CASE("in the library's own time DDIM and UFOGen's sampler step as they always did", "[diffusion]") {
  for (const Schedule kind : {Schedule::cosine, Schedule::scaled_linear})
    for (const float strength : {1.0f, 0.6f}) {
      const NoiseSchedule schedule(kind);
      const Course c{.steps = 5, .strength = strength, .shift = 3.0f};
      const std::size_t steps = strength == 1.0f ? 5 : 3;
      std::size_t step = 0;
      const auto time = [&](std::size_t k) {
        if (strength == 1.0f) return step_time(k, steps, 3.0f);
        return shifted(strength * (1.0f - static_cast<float>(k) / static_cast<float>(steps)), 3.0f);
      };
      const auto check_step = [&](bool ddim) {
        return [&, ddim](const SamplingStep& at, std::vector<float> z, std::vector<float> output, const std::vector<float>& found,
                         const std::vector<float>& noise) {
          CHECK(at.time == timestep(kind, time(step)));
          const NoiseLevel from = noise_level(kind, time(step)), to = noise_level(kind, time(step + 1));
          if (ddim) {
            ddim_step(Prediction::v, from, to, output.data(), z.data(), count);
          } else {
            picture_of(Prediction::v, from, z.data(), output.data(), count);
            z = output;
            if (step + 1 < steps) add_noise(to, output.data(), noise.data(), z.data(), count);
          }
          CHECK(z == found);
          ++step;
        };
      };
      CHECK(run(Ddim{}, schedule, Prediction::v, c, strength != 1.0f, check_step(true)).times.size() == steps);
      step = 0;
      CHECK(run(Renoise{}, schedule, Prediction::v, c, strength != 1.0f, check_step(false)).times.size() == steps);
    }
}

TEST_CASE("every sampler ends at the picture of a network that knows it, on every grid and noise schedule", "[diffusion]") {
  const NoiseSchedule schedules[] = {NoiseSchedule(Schedule::cosine), NoiseSchedule(Schedule::scaled_linear),
                                     NoiseSchedule(BetaSchedule::scaled_linear, 0.00085, 0.012, true),
                                     NoiseSchedule(BetaSchedule::squaredcos_cap_v2, 0, 0)};
  for_each_sampler([&]<class S>() {
    for (const Spacing spacing : {Spacing::continuous, Spacing::leading, Spacing::trailing, Spacing::linspace})
      for (const NoiseSchedule& schedule : schedules)
        for (const std::size_t steps : {1, 2, 3, 7, 20}) {
          for (const float strength : {1.0f, 0.5f}) {
            Sampler sampler = S{};
            if constexpr (requires { S{}.spacing; }) set_spacing(sampler, spacing);
            if constexpr (requires { S{}.alpha_to_one; }) std::get<S>(sampler).alpha_to_one = true;
            const Course c{steps, strength, 2.0f};
            check_course(sampler, c);
            CAPTURE(S::name, static_cast<int>(spacing), steps, strength);
            std::vector<float> z(1, 0.7f), memory(8, NAN), scratch(1, NAN);  // memory: any sampler's, as the compiler sees it
            static_assert(S::remembers <= 8);
            const float x = -1.25f;
            SamplingStep at;
            for (std::size_t pass = 0; pass < passes(sampler, c); ++pass) {
              at = step_at(sampler, schedule, c, pass);
              CHECK(at.time >= 0.0f);
              CHECK(at.time < 1000.0f);
              sampler_step(
                  sampler, schedule, c, Prediction::sample, pass, &x, z.data(), memory.data(), scratch.data(),
                  [](float* into) { *into = 0.3f; }, 1);
              REQUIRE(std::isfinite(z[0]));
            }
            // PNDM's steps need not end at the picture where they do not divide 1000; LCM keeps, TCD leaves a trace of noise.
            if (S::name == Pndm::name || at.to.sigma > 0.1) continue;
            CHECK(z[0] == Approx(x).margin(0.1));
          }
        }
  });
}

TEST_CASE("after a step with new noise the sampler tells which noise the latents have", "[diffusion]") {
  const NoiseSchedule schedule(BetaSchedule::scaled_linear, 0.00085, 0.012);
  for_each_sampler([&]<class S>() {
    Sampler sampler = S{};
    if (S::name == Ddim::name) {
      set_eta(sampler, 0.5f);
      set_spacing(sampler, Spacing::trailing);
    }
    if (!renews_noise(sampler)) return;
    INFO(S::name);
    run(sampler, schedule, Prediction::sample, {.steps = 4}, false,
        [&](const SamplingStep& at, const auto&, const std::vector<float>& x, const std::vector<float>& z,
            const std::vector<float>& noise) {
          if (at.to.sigma < 0.05) return;
          for (std::size_t i = 0; i < count; ++i)
            CHECK(static_cast<float>(at.to.alpha) * x[i] + static_cast<float>(at.to.sigma) * noise[i] ==
                  Approx(z[i]).margin(1e-4));
        });
  });
}

TEST_CASE("samplers are found by their names, and options that one has not are refused", "[diffusion]") {
  CHECK(sampler_names().starts_with("ddim, euler, "));
  std::set<std::string_view> names;
  for_each_sampler([&]<class S>() {
    names.insert(S::name);
    const auto found = sampler_named(S::name);
    REQUIRE(found);
    CHECK(std::holds_alternative<S>(*found));
    CHECK(name_of(*found) == S::name);
    CHECK(contains(sampler_names(), S::name));
    CHECK(S::remembers <= remembered_by_any);
  });
  CHECK(names.size() == std::variant_size_v<Sampler>);
  for (const char* wrong : {"", "DDIM", "dpm", "ddim "}) CHECK(!sampler_named(wrong));

  Sampler lcm = Lcm{}, euler = Euler{}, ddim = Ddim{}, pndm = Pndm{};
  expect(error_of([&] { set_spacing(lcm, Spacing::leading); }), "sampler lcm: has no option spacing");
  expect(error_of([&] { set_karras(pndm, true); }), "sampler pndm: has no option karras");
  expect(error_of([&] { set_eta(euler, 0.5f); }), "sampler euler: has no option eta");
  expect(error_of([&] { set_eta(ddim, 1.5f); }), "eta: expected 0 to 1, found 1.5");
  set_karras(pndm, false);
  set_karras(euler, true);
  set_spacing(euler, Spacing::trailing);
  CHECK(std::get<Euler>(euler).karras);
  CHECK(std::get<Euler>(euler).spacing == Spacing::trailing);
}

TEST_CASE("a course that a sampler cannot take is refused", "[diffusion]") {
  const auto refusal = [](const Sampler& s, const Course& c) { return error_of([&] { check_course(s, c); }); };
  CHECK(refusal(Ddim{}, {.steps = 1000}).empty());
  expect(refusal(Ddim{}, {.steps = 1001}), "steps: expected 1 to 1000, found 1001");
  expect(refusal(Euler{}, {.steps = 0}), "steps: expected 1 to 1000, found 0");
  expect(refusal(Lcm{}, {.steps = 51}),
         "steps: expected 1 to 50 for sampler lcm (those its models were distilled for, times strength), found 51");
  expect(refusal(Tcd{}, {.steps = 8, .strength = 0.1f}), "steps: expected 1 to 5 for sampler tcd");
  expect(refusal(Pndm{}, {.strength = 0.0f}), "strength: expected a number above 0 and at most 1, found 0");
  expect(refusal(Pndm{}, {.strength = 1.5f}), "strength: ");
  expect(refusal(Pndm{}, {.strength = NAN}), "strength: ");
}

TEST_CASE("noise schedules of run time", "[diffusion]") {
  for (const Schedule kind : {Schedule::cosine, Schedule::scaled_linear}) {
    const NoiseSchedule schedule(kind);
    for (std::size_t i = 0; i < NoiseSchedule::steps; ++i) {
      const float t = static_cast<float>(i + 1) / 1000.0f;
      CHECK(schedule.level(i).alpha == Approx(noise_level(kind, t).alpha).margin(1e-6));
      CHECK(schedule.timestep(static_cast<double>(i)) == Approx(timestep(kind, t)).margin(2e-3));
      CHECK(schedule.level_at(t).sigma == noise_level(kind, t).sigma);
      CHECK(schedule.timestep_at(t) == timestep(kind, t));
      if (i > 0 && i < 999) CHECK(schedule.index_of(schedule.ratio(static_cast<double>(i))) == Approx(static_cast<double>(i)));
    }
    CHECK(schedule.level_at(0.0f).alpha == 1.0);
  }
  const NoiseSchedule sd(BetaSchedule::scaled_linear, 0.00085, 0.012), zero(BetaSchedule::scaled_linear, 0.00085, 0.012, true);
  CHECK(sd.ratio(0) == Approx(0.0291672).epsilon(2e-5));
  CHECK(sd.ratio(999) == Approx(14.614641).epsilon(1e-6));
  CHECK(sd.ratio(499.5) == Approx(0.5 * (sd.ratio(499) + sd.ratio(500))));
  CHECK(zero.level(999).alpha == 0.0);
  CHECK(zero.level(998).alpha == Approx(std::sqrt(1.96789e-7)).epsilon(1e-4));
  CHECK(zero.level(500).alpha == Approx(std::sqrt(0.2410188)).epsilon(1e-6));
  CHECK(zero.ratio(999) == Approx(4096).epsilon(1e-6));
  CHECK(sd.index_of(1e-3) == 0.0);
  CHECK(sd.index_of(1e3) == 999.0);
}

}  // namespace test_samplers_cpp
