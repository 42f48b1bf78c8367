// SPDX-License-Identifier: Apache-2.0
// What a profiler is told of a pass: every multiply-accumulate that the type counts, and only layers that exist.
#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/part_times.hpp"
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

TEST_CASE("parts are named as their tensors begin", "[observer]") {
  const auto part = [](const char* path) { return std::string(detail::part_name(path)); };
  CHECK(part("unet.down_blocks.0.resnets.1.conv1.weight") == "unet.down_blocks.0");
  CHECK(part("unet.mid_block.attentions.0.proj_in.bias") == "unet.mid_block");
  CHECK(part("unet.conv_in.weight") == "unet.conv_in");
  CHECK(part("unet.time_embedding.linear_1.weight") == "unet.time_embedding");
  CHECK(part("vae.decoder.up_blocks.2.resnets.0.norm1.weight") == "vae.decoder.up_blocks.2");
  CHECK(part("vae.decoder.conv_out.bias") == "vae.decoder.conv_out");
  CHECK(part("vae.quant_conv.weight") == "vae.quant_conv");
  CHECK(part("text_encoder.text_model.encoder.layers.0.mlp.fc1.weight") == "text_encoder.text_model");
  CHECK(part("down_blocks.1.resnets.0.conv1.weight") == "down_blocks.1");  // of a network alone
  CHECK(part("conv_in.weight") == "conv_in");
  CHECK(part("scale") == "scale");
  CHECK(part("unet.odd_blocks") == "unet");
}

TEST_CASE("the time of a pass is told by parts", "[unet][observer]") {
  using Net = Unet<presets::tiny.unet>;
  const Executor ex(1);
  gradient_tests::Bound<Net::Weights> plain;
  gradient_tests::randomize(*plain, 1);
  PackedWeights<Net::Weights> weights(*plain, Format::fp32);
  const AlignedBuffer memory(Net::stack_floats(Plan::inference, 1));
  std::vector<float> z(Net::latent_floats), context(Net::context_floats), pooled(Net::config.pooled_width), y(z.size());
  PartTimes times(weights.weights());
  for (std::size_t passes = 1; passes <= 2; ++passes) {
    Stack stack(memory);
    Context c{.executor = ex, .stack = stack, .batch = 1, .packed = true, .format = Format::fp32, .observer = &times};
    const float timestep = 100.0f;
    Net::Saved saved{};
    Net::forward(c, weights.weights(), z.data(), &timestep, {context.data(), pooled.data()}, y.data(), saved);
    std::size_t macs = 0, parameters = 0;
    for (const PartTime& p : times.parts()) {
      INFO(p.name);
      CHECK(p.seconds > 0);
      macs += p.macs;
      parameters += p.parameters;
    }
    CHECK(macs == passes * Net::macs);
    CHECK(parameters == Net::parameters);
    CHECK(times.parts().front().name == "conv_in");
  }
  times.clear();
  for (const PartTime& p : times.parts()) CHECK((p.seconds == 0 && p.macs == 0));

  // What has no weights goes by what ran before it; before everything it goes nowhere.
  const auto macs = [&] {
    return std::accumulate(times.parts().begin(), times.parts().end(), std::size_t{0},
                           [](std::size_t n, const PartTime& p) { return n + p.macs; });
  };
  times.begin({"activation", nullptr, 1, 1});
  times.end();
  CHECK(macs() == 0);
  times.begin({"conv2d", weights.weights().conv_in.weight.data, 2, 1});
  times.end();
  times.begin({"activation", nullptr, 3, 1});
  times.end();
  CHECK(times.parts().front().macs == 5);
  CHECK(macs() == 5);
}

}  // namespace test_observer_cpp
