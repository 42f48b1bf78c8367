// SPDX-License-Identifier: Apache-2.0
// A training that is killed at any moment leaves a checkpoint that loads, and no files that pile up.
#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/models/text_encoder.hpp>
#include <mobilediffusion/train/initialize.hpp>
#include <mobilediffusion/train/state.hpp>

#include "catch.hpp"
#include "io/temporary_folder.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mobilediffusion;

namespace {

using State = train::TrainState<TextEncoder<presets::tiny.text>::Weights>;

// Goes on where the checkpoint stands, one step and one checkpoint after the other, until it is killed.
[[noreturn]] void train_for_ever(const std::filesystem::path& checkpoint) {
  try {
    const Executor ex(1);
    State state;
    if (path_exists(checkpoint)) state.load(checkpoint);
    else train::initialize(state.weights, 1);
    const train::OptimizerOptions options;
    while (true) {
      const auto weights = reflect::leafs(state.weights), gradients = reflect::leafs(state.gradients);
      for (std::size_t i = 0; i < weights.size(); ++i)
        std::copy_n(weights[i].data(), weights[i].type->count, gradients[i].data());
      state.update(ex, options);
      state.save(checkpoint, {{"note", "begun anew or gone on"}});
    }
  } catch (...) {
  }
  ::_exit(1);
}

// As many processes. The first is killed when it has written a checkpoint, the others at any moment up to twice that time, at
// least 20 milliseconds.
void kill_trainings(std::size_t kills) {
  const TemporaryFolder folder;
  const auto checkpoint = folder / "checkpoint.safetensors";
  Random random(3, 1);
  std::size_t most_files = 0, done = 0, span = 20'000;  // span: microseconds
  for (std::size_t i = 0; i < kills; ++i) {
    const ::pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) train_for_ever(checkpoint);
    if (i == 0) {
      std::size_t waited = 0;
      for (; !path_exists(checkpoint) && waited < 120'000'000; waited += 1000) ::usleep(1000);
      span = std::max(span, 2 * waited);
    } else {
      ::usleep(random.below(static_cast<std::uint32_t>(span)));
    }
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));  // it did not fail by itself
    most_files = std::max(most_files, folder.files());
    State state;
    CHECK(state.load(checkpoint).at("note") == "begun anew or gone on");
    CHECK(state.step >= std::max<std::size_t>(done, 1));
    done = state.step;
  }
  CHECK(most_files <= 2);  // the checkpoint and what the last one killed was writing
}

}  // namespace

TEST_CASE("twenty kills leave a checkpoint and no litter", "[train][kills]") { kill_trainings(20); }
TEST_CASE("three hundred kills leave a checkpoint and no litter", "[.][kills]") { kill_trainings(300); }  // on demand

#endif
