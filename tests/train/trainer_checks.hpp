// SPDX-License-Identifier: Apache-2.0
// What holds for every trainer: a training that was saved and taken up again is the one that was not, on any number of
// threads; and its gradient is that of its loss.
#pragma once

#include <cmath>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "gradient_check.hpp"
#include "io/temporary_folder.hpp"
#include "mobilediffusion/core/executor.hpp"
#include "mobilediffusion/io/atomic_file.hpp"
#include "mobilediffusion/reflect/reflect.hpp"

namespace trainer_tests {

using mobilediffusion::Executor;

// Trainers of more than one state, or with more than a state, save and load themselves.
template <class Trainer>
void save(const Trainer& t, const std::filesystem::path& path) {
  if constexpr (requires { t.save(path); }) t.save(path);
  else t.state.save(path);
}
template <class Trainer>
void load(Trainer& t, const std::filesystem::path& path) {
  if constexpr (requires { t.load(path); }) t.load(path);
  else t.state.load(path);
}

// make(executor): a trainer, held by a std::unique_ptr; advance(trainer): one step, its loss. The file of a state holds all
// four arrays, so equal files are equal states.
template <class Make, class Advance>
void check_resume(Make&& make, Advance&& advance) {
  const TemporaryFolder folder;
  const auto run = [&](auto& trainer, int steps) {
    float loss = 0;
    for (int i = 0; i < steps; ++i) loss = advance(trainer);
    return loss;
  };
  const Executor one(1),
      two = Executor::oversubscribed(2),
      three = Executor::oversubscribed(3);  // two: each pass on a thread of its own; three: passes in turn on all
  const auto whole = make(one);
  run(*whole, 5);
  save(*whole, folder / "whole");
  const float next = run(*whole, 1);
  CHECK(std::isfinite(next));

  for (const auto& [before, after] :
       {std::pair{&one, &one}, std::pair{&two, &one}, std::pair{&one, &two}, std::pair{&three, &one}}) {
    const auto first = make(*before);
    run(*first, 3);
    save(*first, folder / "part");
    const auto second = make(*after);
    run(*second, 1);  // what it was before loading must not matter
    load(*second, folder / "part");
    run(*second, 2);
    save(*second, folder / "resumed");
    const bool equal = mobilediffusion::read_file(folder / "resumed") == mobilediffusion::read_file(folder / "whole");
    CHECK(equal);
    CHECK(run(*second, 1) == next);
  }
}

// Compares <gradient, d> with central differences of loss() along the gradient, along it with the sign of every tensor drawn at
// random, and along that of each part alone (encoder, unet, ...), so that no wrong factor or sign hides behind other tensors.
// gradients() fills state.gradients and returns the loss. reach: how far to go, relative to the size of the weights.
// reaches_all: whether every tensor must have a gradient.
template <class State>
std::string check_loss_gradient(State& state, const std::function<double()>& gradients, double reach, double tolerance,
                                bool reaches_all = true) {
  using namespace mobilediffusion;
  gradients();
  std::string faults;
  std::vector<float*> at;
  std::vector<double> kept, g;
  std::vector<std::size_t> tensor;  // of each weight
  std::vector<std::string> parts;   // of each tensor
  double weights2 = 0;
  reflect::visit(state.weights, [&]<class Leaf>(std::string_view path, Leaf& leaf) {
    for (std::size_t i = 0; i < Leaf::count; ++i) {
      at.push_back(leaf.data + i);
      kept.push_back(static_cast<double>(leaf.data[i]));
      tensor.push_back(parts.size());
      weights2 += kept.back() * kept.back();
    }
    parts.emplace_back(path.substr(0, path.find('.')));
  });
  reflect::visit(state.gradients, [&]<class Leaf>(std::string_view path, Leaf& leaf) {
    double size = 0;
    for (std::size_t i = 0; i < Leaf::count; ++i) {
      g.push_back(static_cast<double>(leaf.data[i]));
      size += std::fabs(g.back());
    }
    if ((size == 0.0 && reaches_all) || !std::isfinite(size))
      faults += std::string(path) + ": the gradient is zero or not finite\n";
  });

  const auto probe = [&](const std::string& name, const std::vector<double>& sign) {  // of each tensor; 0: left out
    double norm2 = 0, analytic = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
      norm2 += sign[tensor[i]] * sign[tensor[i]] * g[i] * g[i];
      analytic += sign[tensor[i]] * g[i] * g[i];
    }
    if (norm2 == 0.0) return;
    const double norm = std::sqrt(norm2), h = reach * std::sqrt(weights2 / static_cast<double>(g.size()));
    analytic /= norm;
    const auto loss = [&](double s) {
      for (std::size_t i = 0; i < g.size(); ++i) *at[i] = static_cast<float>(kept[i] + s * sign[tensor[i]] * g[i] / norm);
      return gradients();
    };
    const double numeric = (8.0 * (loss(h) - loss(-h)) - (loss(2.0 * h) - loss(-2.0 * h))) / (12.0 * h);
    loss(0.0);
    if (!(std::fabs(analytic - numeric) <= tolerance * norm))
      faults += name + ": analytic " + std::to_string(analytic) + ", numeric " + std::to_string(numeric) + ", norm " +
                std::to_string(norm) + "\n";
  };
  probe("along the gradient", std::vector<double>(parts.size(), 1.0));
  Random random(5, 5);
  for (int k = 0; k < 3; ++k) {
    std::vector<double> sign(parts.size());
    for (double& s : sign) s = random.below(2) == 0 ? -1.0 : 1.0;
    probe("with random signs", sign);
  }
  for (const std::string& part : std::set<std::string>(parts.begin(), parts.end())) {
    std::vector<double> sign(parts.size());
    for (std::size_t t = 0; t < parts.size(); ++t) sign[t] = parts[t] == part;
    probe(part, sign);
  }
  return faults;
}

}  // namespace trainer_tests
