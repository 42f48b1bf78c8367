// SPDX-License-Identifier: Apache-2.0
// Checkpoints of a training. What was accepted is saved and read again as it was, and a step from it ends.
#include "fuzz.hpp"
#include "mobilediffusion/train/state.hpp"

namespace md = mobilediffusion;

namespace {

struct Toy {
  md::Matrix<2, 3> matrix;
  md::Param<3> bias;
  md::Filter<2, 1, 3> filter;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder("state");
  const auto path = folder.write("input", fuzz::safetensors_file(fuzz::text_of(data, size)));
  return fuzz::read([&] {
    md::train::TrainState<Toy> state;
    state.load(path);
    const md::Executor executor(1);
    state.zero_gradients();
    state.update(executor, {});
  });
}
