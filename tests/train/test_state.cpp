// SPDX-License-Identifier: Apache-2.0
// The state of a training: what the optimizer does to which tensor, and checkpoints that no kill, cut or foreign file harms.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <mobilediffusion/train/state.hpp>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "io/temporary_folder.hpp"

namespace test_state_cpp {

using namespace mobilediffusion;
using namespace mobilediffusion::train;

namespace {

struct Toy {
  Matrix<5, 3> matrix;
  Param<7> bias;
  Filter<3, 2, 3> filter;
  DepthwiseFilter<4, 3> depthwise;
};
struct Other {
  Matrix<5, 4> matrix;
  Param<7> bias;
  Filter<3, 2, 3> filter;
  DepthwiseFilter<4, 3> depthwise;
};
struct Large {  // 1.5 MB a checkpoint, so that a kill often falls into the writing of one
  Matrix<256, 352> matrix;
  Param<1000> bias;
};

template <class W, class F>
void each_value(W& weights, F&& f) {
  reflect::visit(weights, [&]<class Leaf>(std::string_view, Leaf& leaf) {
    for (std::size_t i = 0; i < Leaf::count; ++i) f(leaf.data[i]);
  });
}
template <class W>
void fill(W& weights, float value) {
  each_value(weights, [&](float& x) { x = value; });
}
template <class W>
std::vector<float> values(const W& weights) {
  std::vector<float> out;
  each_value(weights, [&](float x) { out.push_back(x); });
  return out;
}

// A few steps on made-up gradients: all four arrays differ from zero and from each other.
TrainState<Toy> trained(std::size_t steps) {
  const Executor ex(1);
  TrainState<Toy> state;
  fill(state.weights, 1.0f);
  state.start_average();
  for (std::size_t k = 0; k < steps; ++k) {
    float x = 0;
    each_value(state.gradients, [&](float& g) { g = std::sin(x += 1.0f + static_cast<float>(state.step)); });
    state.update(ex, {});
  }
  return state;
}
// Weights, average and what the moments make of the next step.
template <class W>
std::vector<float> everything(TrainState<W>& state) {
  std::vector<float> out = values(state.weights), average = values(state.average);
  out.insert(out.end(), average.begin(), average.end());
  out.push_back(static_cast<float>(state.step));
  return out;
}
bool same_bytes(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
std::string bytes_of(const std::filesystem::path& path) { return read_file(path); }

}  // namespace

TEST_CASE("weight decay shrinks matrices and filters, nothing else", "[train][state]") {
  const Executor ex(1);
  TrainState<Toy> state;
  fill(state.weights, 2.0f);
  state.start_average();
  OptimizerOptions o;
  o.schedule.peak = 0.1f;
  o.adamw.weight_decay = 0.5f;
  state.zero_gradients();
  const StepReport r = state.update(ex, o);
  CHECK(r.learning_rate == 0.1f);
  CHECK(r.gradient_norm == 0.0f);
  CHECK(state.weights.matrix.data[0] == Approx(2.0 * 0.95));
  CHECK(state.weights.filter.data[53] == Approx(2.0 * 0.95));
  CHECK(state.weights.bias.data[6] == 2.0f);
  CHECK(state.weights.depthwise.data[35] == 2.0f);
}

TEST_CASE("clipping limits the norm that the moments see and reports the one it found", "[train][state]") {
  // With beta1 = 0 and a huge eps, an AdamW step is rate * gradient / eps: it shows the clipped gradient itself.
  const Executor ex(1);
  OptimizerOptions o;
  o.adamw = {.beta1 = 0.0f, .beta2 = 0.99f, .eps = 1000.0f, .weight_decay = 0.0f};
  o.schedule.peak = 1000.0f;
  o.clip = 2.0f;
  const auto moved = [&](float gradient) {
    TrainState<Toy> state;
    fill(state.gradients, 0.0f);
    state.gradients.bias.data[0] = 3.0f * gradient;
    state.gradients.matrix.data[0] = 4.0f * gradient;
    const StepReport r = state.update(ex, o);
    CHECK(r.gradient_norm == Approx(5.0f * gradient));
    return std::pair{-state.weights.bias.data[0], -state.weights.matrix.data[0]};
  };
  CHECK(moved(0.2f).first == Approx(0.6).epsilon(0.01));  // norm 1: as it is
  CHECK(moved(0.2f).second == Approx(0.8).epsilon(0.01));
  CHECK(moved(10.0f).first == Approx(2.0 * 0.6).epsilon(0.01));  // norm 50: down to 2
  CHECK(moved(10.0f).second == Approx(2.0 * 0.8).epsilon(0.01));
}

TEST_CASE("the average follows the weights, quickly at first", "[train][state]") {
  const Executor ex(1);
  OptimizerOptions o;
  o.schedule.peak = 0.125f;
  o.adamw.weight_decay = 0.0f;
  o.ema_decay = 0.25f;
  TrainState<Toy> state;
  state.start_average();
  const auto step = [&] {
    fill(state.gradients, 1.0f);
    state.update(ex, o);
  };
  step();
  const float first = state.weights.bias.data[0];
  CHECK(first == Approx(-0.125));
  CHECK(state.average.bias.data[0] == Approx((1.0 - 2.0 / 21.0) * first));
  for (int i = 0; i < 20; ++i) step();
  const float before = state.average.bias.data[0];
  step();
  CHECK(state.average.bias.data[0] == Approx(0.25 * before + 0.75 * state.weights.bias.data[0]));
}

TEST_CASE("a gradient that is not finite changes nothing", "[train][state]") {
  const Executor ex(1);
  TrainState<Toy> state = trained(2);
  const std::vector<float> before = everything(state);
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    fill(state.gradients, 0.5f);
    state.gradients.depthwise.data[35] = bad;
    expect(error_of([&] { state.update(ex, {}); }), "not finite at step 3");
    CHECK(same_bytes(everything(state), before));
  }
}

TEST_CASE("a checkpoint brings everything back, bit by bit", "[train][state]") {
  const TemporaryFolder folder;
  TrainState<Toy> state = trained(3);
  state.save(folder / "a", {{"note", "x"}});
  TrainState<Toy> other;
  CHECK(other.load(folder / "a").at("note") == "x");
  CHECK(other.step == 3);
  CHECK(same_bytes(everything(other), everything(state)));
  other.save(folder / "b", {{"note", "x"}});  // the moments as well
  CHECK(bytes_of(folder / "a") == bytes_of(folder / "b"));
  CHECK(folder.files() == 2);
}

TEST_CASE("a checkpoint that is foreign, cut or broken is refused, and the state stays as it was", "[train][state]") {
  const TemporaryFolder folder;
  trained(3).save(folder / "good");
  const std::string good = bytes_of(folder / "good");
  TrainState<Toy> state = trained(5);
  state.save(folder / "before");
  const std::string before = bytes_of(folder / "before");
  const auto refused = [&](const std::string& name, std::string_view part) {
    expect(error_of([&] { state.load(folder / name); }), part);
    state.save(folder / "after");
    CHECK(bytes_of(folder / "after") == before);
  };
  TrainState<Other>().save(folder / "other");
  refused("other", "weights.matrix");
  refused("missing", "missing");
  for (std::size_t n = 0; n < good.size(); n += n < 16 ? 1 : 97) {
    write_file(folder / "cut", std::string_view(good).substr(0, n));
    CHECK_THROWS_AS(state.load(folder / "cut"), Error);
  }
  refused("cut", "cut");

  // A number that is not finite in the last array: the first three must not have been taken over.
  std::string broken = good;
  const float bad = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(broken.data() + broken.size() - sizeof bad, &bad, sizeof bad);
  write_file(folder / "broken", broken);
  refused("broken", "finite");
  const float negative = -1e-6f;  // of a mean of squares: its root would be none
  std::memcpy(broken.data() + broken.size() - sizeof negative, &negative, sizeof negative);
  write_file(folder / "negative", broken);
  refused("negative", "tensor second_moment.");

  // No step, or none that is a number.
  for (const std::string step : {"", "12x", "-1", "99999999999999999999999"}) {
    std::vector<TensorToWrite> tensors;
    TrainState<Toy> source = trained(1);
    for (const char* prefix : {"weights.", "average.", "first_moment.", "second_moment."})
      list_weights(tensors, prefix, source.weights, Dtype::f32);
    Metadata metadata;
    if (!step.empty()) metadata["step"] = step;
    write_safetensors(folder / "stepless", tensors, metadata);
    refused("stepless", "step");
  }
  CHECK(state.load(folder / "good").size() >= 1);
  CHECK(state.step == 3);
}

TEST_CASE("a checkpoint is whole whenever its writer is killed", "[train][state]") {
  const TemporaryFolder folder;
  const auto path = folder / "checkpoint";
  // Every number of checkpoint k is k: a mixture of two would show.
  const auto numbered = [](TrainState<Large>& state, std::size_t k) {
    fill(state.weights, static_cast<float>(k));
    fill(state.average, static_cast<float>(k));
    state.step = k;
  };
  TrainState<Large> state, loaded;
  numbered(state, 1);
  state.save(path);
  write_file(folder / "checkpoint.tmp", "left by a kill long ago");
  std::uint32_t random = 12345;
  std::size_t reached = 1;
  for (int round = 0; round < 12; ++round) {
    const ::pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {  // only plain file calls from here: no threads survive a fork
      try {
        for (std::size_t k = reached + 1;; ++k) {
          numbered(state, k);
          state.save(path);
        }
      } catch (...) {
      }
      ::_exit(3);
    }
    // Every other child finishes a checkpoint first; then the kill comes at any moment of the next one.
    const auto before = std::filesystem::last_write_time(path);
    for (int wait = 0; wait < 20000 && round % 2 == 0 && std::filesystem::last_write_time(path) == before; ++wait)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    random = random * 1664525u + 1013904223u;
    std::this_thread::sleep_for(std::chrono::microseconds(random % 20000));
    REQUIRE(::kill(child, SIGKILL) == 0);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));  // it had not stopped by itself

    REQUIRE_NOTHROW(loaded.load(path));
    CHECK(loaded.step >= reached);
    std::size_t wrong = 0;
    const auto check = [&](float x) { wrong += x != static_cast<float>(loaded.step); };
    each_value(loaded.weights, check);
    each_value(loaded.average, check);
    CHECK(wrong == 0);
    reached = loaded.step;
  }
  CHECK(reached >= 6);
  numbered(state, reached + 1);  // whatever the kills left behind, the next writer gets through
  state.save(path);
  loaded.load(path);
  CHECK(loaded.step == reached + 1);
  CHECK(folder.files() == 1);
}

}  // namespace test_state_cpp
