// SPDX-License-Identifier: Apache-2.0
// What a profiler is told of a pass: every multiply-accumulate that the type counts, and only layers that exist.
#include <algorithm>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "model_runs.hpp"

namespace test_observer_cpp {

using namespace mobilediffusion;

namespace {

class Recorder : public Observer {
 public:
  void begin(const Operation& o) override {
    CHECK(!inside_);  // operations do not nest
    inside_ = true;
    operations.push_back(o);
  }
  void end() override { inside_ = false; }
  std::vector<Operation> operations;

 private:
  bool inside_ = false;
};

}  // namespace

TEST_CASE("an observer is told of every multiply-accumulate of a pass", "[unet][observer]") {
  using Net = Unet<presets::tiny.unet>;
  const Executor ex(1);
  gradient_tests::Bound<Net::Weights> plain;
  gradient_tests::randomize(*plain, 1);
  for (const Format format : {Format::fp32, Format::bf16}) {
    PackedWeights<Net::Weights> weights(*plain, format);
    const AlignedBuffer memory(Net::stack_floats(Plan::inference, 1));
    Stack stack(memory);
    Recorder recorder;
    Context c{.executor = ex, .stack = stack, .batch = 1, .packed = true, .format = format, .observer = &recorder};
    std::vector<float> z(Net::latent_floats), context(Net::context_floats), pooled(Net::config.pooled_width), y(z.size());
    const float timestep = 100.0f;
    Net::Saved saved{};
    Net::forward(c, weights.weights(), z.data(), &timestep, {context.data(), pooled.data()}, y.data(), saved);
    std::size_t macs = 0;
    std::vector<const float*> places;
    for (const reflect::LeafView& leaf : reflect::leafs(weights.weights())) places.push_back(leaf.data());
    for (const Operation& o : recorder.operations) {
      macs += o.macs;
      INFO(o.kind);
      CHECK(o.bytes > 0);
      if (o.weights != nullptr) CHECK(std::find(places.begin(), places.end(), o.weights) != places.end());
    }
    CHECK(macs == Net::macs);
  }
}

}  // namespace test_observer_cpp
