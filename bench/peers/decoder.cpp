// SPDX-License-Identifier: Apache-2.0
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/models/vae.hpp"
#include "network.hpp"

namespace peers {

namespace {

constexpr md::VaeConfig config = md::presets::full.vae;
using Net = md::Vae<config>;

class Decoder final : public Network {
  struct Weights {  // what decoding needs of the autoencoder
    typename Net::Decoder::Weights decoder;
    typename Net::Decoder::PostQuant::Weights post_quant_conv;
  };

 public:
  Decoder(const std::filesystem::path& weights, const std::filesystem::path& inputs, int threads, md::Format format)
      : executor_(threads),
        packed_(read_packed<Weights>(weights, format)),
        activations_(Net::Decoder::stack_floats(md::Plan::inference, 1)) {
    const md::SafetensorsFile file(inputs);
    z_ = read_input(file, "z", {1, Net::latent_height, Net::latent_width, config.latent_channels});
    shape = {1, config.height, config.width, 3};
    output.resize(Net::picture_floats);
  }
  void run() override {
    md::Stack stack(activations_);
    md::Context c{.executor = executor_, .stack = stack, .batch = 1, .packed = true, .format = packed_.format()};
    typename Net::Decoder::Saved saved{};
    const Weights& weights = packed_.weights();
    Net::Decoder::forward(c, weights.decoder, weights.post_quant_conv, z_.data(), output.data(), saved);
  }

 private:
  md::Executor executor_;
  md::PackedWeights<Weights> packed_;
  md::AlignedBuffer activations_;
  std::vector<float> z_;
};

}  // namespace

std::unique_ptr<Network> make_decoder(const std::filesystem::path& weights, const std::filesystem::path& inputs, int threads,
                                      md::Format format) {
  return std::make_unique<Decoder>(weights, inputs, threads, format);
}

}  // namespace peers
