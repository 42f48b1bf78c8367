// SPDX-License-Identifier: Apache-2.0
#include "mobilediffusion/models/unet.hpp"

#include "mobilediffusion/config/presets.hpp"
#include "network.hpp"

namespace peers {

namespace {

constexpr md::UnetConfig config = md::presets::full.unet;
using Net = md::Unet<config>;

class Unet final : public Network {
 public:
  Unet(const std::filesystem::path& weights, const std::filesystem::path& inputs, int threads, md::Format format)
      : executor_(threads),
        packed_(read_packed<typename Net::Weights>(weights, format)),
        activations_(Net::stack_floats(md::Plan::inference, 1)) {
    const md::SafetensorsFile file(inputs);
    shape = {1, config.height, config.width, config.latent_channels};
    z_ = read_input(file, "z", shape);
    timesteps_ = read_input(file, "timesteps", {1});
    context_ = read_input(file, "context", {1, config.context_length, config.context_width});
    output.resize(Net::latent_floats);
  }
  void run() override {
    md::Stack stack(activations_);
    md::Context c{.executor = executor_, .stack = stack, .batch = 1, .packed = true, .format = packed_.format()};
    typename Net::Saved saved{};
    Net::forward(c, packed_.weights(), z_.data(), timesteps_.data(), {context_.data()}, output.data(), saved);
  }

 private:
  md::Executor executor_;
  md::PackedWeights<typename Net::Weights> packed_;
  md::AlignedBuffer activations_;
  std::vector<float> z_, timesteps_, context_;
};

}  // namespace

std::unique_ptr<Network> make_unet(const std::filesystem::path& weights, const std::filesystem::path& inputs, int threads,
                                   md::Format format) {
  return std::make_unique<Unet>(weights, inputs, threads, format);
}

}  // namespace peers
