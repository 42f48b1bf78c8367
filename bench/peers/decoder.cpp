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
  Decoder(const std::filesystem::path& weights, const std::filesystem::path& inputs, int threads)
      : executor_(threads), packed_(weights), activations_(Net::Decoder::stack_floats(md::Plan::inference, 1)) {
    const md::SafetensorsFile file(inputs);
    z_ = read_input(file, "z", {1, Net::latent_height, Net::latent_width, config.latent_channels});
    shape = {1, config.height, config.width, 3};
    output.resize(Net::picture_floats);
  }
  void run() override {
    md::Stack stack(activations_);
    md::Context c{executor_, stack, 1, true};
    typename Net::Decoder::Saved saved{};
    Net::Decoder::forward(c, packed_.weights.decoder, packed_.weights.post_quant_conv, z_.data(), output.data(), saved);
  }

 private:
  md::Executor executor_;
  Packed<Weights> packed_;
  md::AlignedBuffer activations_;
  std::vector<float> z_;
};

}  // namespace

std::unique_ptr<Network> make_decoder(const std::filesystem::path& weights, const std::filesystem::path& inputs, int threads) {
  return std::make_unique<Decoder>(weights, inputs, threads);
}

}  // namespace peers
