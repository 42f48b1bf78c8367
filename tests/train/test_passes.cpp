// SPDX-License-Identifier: Apache-2.0
// Passes of a training step at the same time: what fails in one of them is an error of the step, not the end of the process.
#include <mobilediffusion/train/passes.hpp>
#include <string>
#include <type_traits>

#include "catch.hpp"

using namespace mobilediffusion;
using namespace mobilediffusion::train;

namespace {

struct Toy {
  Matrix<5, 3> matrix;
};

// What a step whose passes take `floats` throws, of stacks of 64.
std::string message(int threads, std::size_t passes, std::size_t floats) {
  const Executor ex = Executor::oversubscribed(threads);
  Workers workers(ex, passes, 64);
  try {
    workers.run([&](std::size_t, std::size_t, const Executor&, Stack& stack) { stack.take(floats); });
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing";
}

}  // namespace

TEST_CASE("a pass that needs more memory than was planned is an error", "[train][passes]") {
  for (const int threads : {1, 2, 3})
    for (const std::size_t passes : {1u, 2u, 5u}) {
      CAPTURE(threads, passes);
      CHECK(message(threads, passes, 64) == "nothing");
      CHECK(message(threads, passes, 65) == "activation stack: expected room for 80 floats, found 64");
    }
}

TEST_CASE("after a pass that failed the others' gradients can be computed again", "[train][passes]") {
  const Executor ex = Executor::oversubscribed(2);
  TrainState<Toy> state;
  Passes<Toy> passes(ex, 4, 64);
  const auto run = [&](bool fails) {
    passes.run(state, [&](std::size_t i, const Executor&, Stack& stack, Toy& gradients) {
      stack.take(fails && i == 2 ? 1000 : 10);
      gradients.matrix.data[0] += static_cast<float>(i);
    });
  };
  CHECK_THROWS_AS(run(true), Error);
  run(false);
  CHECK(state.gradients.matrix.data[0] == 6.0f);
}

TEST_CASE("passes keep no executor that ends before them", "[train][passes]") {
  static_assert(std::is_constructible_v<Workers, const Executor&, std::size_t, std::size_t>);
  static_assert(!std::is_constructible_v<Workers, Executor, std::size_t, std::size_t>);
  static_assert(!std::is_constructible_v<Passes<Toy>, Executor, std::size_t, std::size_t>);
}
