// SPDX-License-Identifier: Apache-2.0
// The samplers. Each is a small type in this list, and all else follows from the list: names, options, memory. All work on
// z = alpha x + sigma eps with alpha^2 + sigma^2 = 1, which is what networks read; k-diffusion's x is z / alpha.
//
// A sampler S is an aggregate of its options. With a NoiseSchedule s and a Course c that check_course() let pass it has, const
// and without state:
// - S::name; S::remembers: arrays of the size of z that it keeps between the passes of a run
// - passes(c): how many times the network is asked; most_steps(c): what c.steps may be at most
// - at(s, c, pass): what the network reads then, and the levels of noise around it; after the last pass z is the picture
// - noise_scale(s, c), where it is not 1: what pure noise is multiplied by in the beginning
// - renews_noise(): whether steps draw noise
// - step(s, c, prediction, pass, output, z, memory, scratch, noise, n): z [n] of this pass and what the network put out for it
//   -> z of the next pass, in place
//
// Of a step memory [remembers][n] stays with the run, scratch [n] holds anything, noise(float* into) draws n normals. Where noise
// is renewed, scratch then holds the noise that z has, unless z has none.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "samplers/consistency.hpp"
#include "samplers/ddim.hpp"
#include "samplers/euler.hpp"
#include "samplers/multistep.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

using Sampler = std::variant<Ddim, Euler, EulerAncestral, DpmSolver, Lcm, Tcd, Pndm, Renoise>;

// How to sample. A request may choose any of it.
struct SamplingOptions {
  Sampler sampler{};
  std::size_t steps = 20;
  float guidance = 1.0f;  // >= 0; at most 1: none, half the work

  friend bool operator==(const SamplingOptions&, const SamplingOptions&) = default;
};

// f.operator()<S>() for each type of the list.
template <class F>
constexpr void for_each_sampler(F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (f.template operator()<std::variant_alternative_t<I, Sampler>>(), ...); }
  (std::make_index_sequence<std::variant_size_v<Sampler>>{});
}

// Arrays of memory that are enough for any sampler.
inline constexpr std::size_t remembered_by_any = [] {
  std::size_t most = 0;
  for_each_sampler([&]<class S>() { most = std::max(most, S::remembers); });
  return most;
}();

inline std::string_view name_of(const Sampler& sampler) {
  return std::visit([](const auto& s) { return std::decay_t<decltype(s)>::name; }, sampler);
}

// With the options that it has when nothing else is said.
std::optional<Sampler> sampler_named(std::string_view name);

// "ddim, euler, ...": for messages.
std::string sampler_names();

inline bool renews_noise(const Sampler& sampler) {
  return std::visit([](const auto& s) { return s.renews_noise(); }, sampler);
}
inline std::size_t passes(const Sampler& sampler, const Course& c) {
  return std::visit([&](const auto& s) { return s.passes(c); }, sampler);
}
inline SamplingStep step_at(const Sampler& sampler, const NoiseSchedule& schedule, const Course& c, std::size_t pass) {
  return std::visit([&](const auto& s) { return s.at(schedule, c, pass); }, sampler);
}
// Where a run that starts from a picture begins: z = alpha picture + sigma noise.
inline NoiseLevel start_of(const Sampler& sampler, const NoiseSchedule& schedule, const Course& c) {
  return step_at(sampler, schedule, c, 0).from;
}
// Where a run that starts from noise begins: z = this times noise.
double noise_scale(const Sampler& sampler, const NoiseSchedule& schedule, const Course& c);
// The contract is at the head of this file.
template <class Noise>
void sampler_step(const Sampler& sampler, const NoiseSchedule& schedule, const Course& c, Prediction prediction, std::size_t pass,
                  const float* output, float* z, float* memory, float* scratch, Noise&& noise, std::size_t n) {
  std::visit([&](const auto& s) { s.step(schedule, c, prediction, pass, output, z, memory, scratch, noise, n); }, sampler);
}

// Throws Error for a course that the sampler cannot take.
void check_course(const Sampler& sampler, const Course& c);

namespace detail {
[[noreturn]] inline void fail_option(std::string_view sampler, std::string_view option) {
  throw Error("sampler " + std::string(sampler) + ": has no option " + std::string(option));
}
}  // namespace detail

// Options that several samplers have. Throw Error, with the sampler's name, for one that has not.
void set_spacing(Sampler& sampler, Spacing spacing);
void set_karras(Sampler& sampler, bool karras);
// In [0, 1]: the share of the noise that is new.
void set_eta(Sampler& sampler, float eta);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY std::optional<Sampler> sampler_named(std::string_view name) {
  std::optional<Sampler> found;
  for_each_sampler([&]<class S>() {
    if (S::name == name) found = S{};
  });
  return found;
}

MOBILEDIFFUSION_BODY std::string sampler_names() {
  std::string names;
  for_each_sampler([&]<class S>() { names.append(names.empty() ? "" : ", ").append(S::name); });
  return names;
}

MOBILEDIFFUSION_BODY double noise_scale(const Sampler& sampler, const NoiseSchedule& schedule, const Course& c) {
  return std::visit(
      [&](const auto& s) {
        if constexpr (requires { s.noise_scale(schedule, c); }) return s.noise_scale(schedule, c);
        else return 1.0;
      },
      sampler);
}

MOBILEDIFFUSION_BODY void check_course(const Sampler& sampler, const Course& c) {
  if (!(c.strength > 0.0f && c.strength <= 1.0f))
    throw Error("strength: expected a number above 0 and at most 1, found " + std::to_string(c.strength));
  const std::size_t most = std::visit([&](const auto& s) { return s.most_steps(c); }, sampler);
  if (c.steps >= 1 && c.steps <= most) return;
  std::string expected = "steps: expected 1 to " + std::to_string(most);
  if (most < NoiseSchedule::steps)
    expected.append(" for sampler ").append(name_of(sampler)).append(" (those its models were distilled for, times strength)");
  throw Error(expected + ", found " + std::to_string(c.steps));
}

MOBILEDIFFUSION_BODY void set_spacing(Sampler& sampler, Spacing spacing) {
  std::visit(
      [&](auto& s) {
        if constexpr (requires { s.spacing; }) s.spacing = spacing;
        else detail::fail_option(s.name, "spacing");
      },
      sampler);
}

MOBILEDIFFUSION_BODY void set_karras(Sampler& sampler, bool karras) {
  std::visit(
      [&](auto& s) {
        if constexpr (requires { s.karras; }) s.karras = karras;
        else if (karras) detail::fail_option(s.name, "karras");
      },
      sampler);
}

MOBILEDIFFUSION_BODY void set_eta(Sampler& sampler, float eta) {
  if (!(eta >= 0.0f && eta <= 1.0f)) throw Error("sampler: eta: expected 0 to 1, found " + std::to_string(eta));
  std::visit(
      [&](auto& s) {
        if constexpr (requires { s.eta; }) s.eta = eta;
        else detail::fail_option(s.name, "eta");
      },
      sampler);
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
