// SPDX-License-Identifier: Apache-2.0
// What is known of a decoder: sizes from the compiler, times from the clock, and what its training at the demo's scale ended in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "emoji/drawing.hpp"
#include "emoji/vae_pictures.hpp"
#include "variants.hpp"

namespace decoders {

struct Times {  // seconds of decoding a 512x512 picture, sorted; empty where none were wanted
  std::vector<double> bf16, int8;
};
struct Row {
  std::size_t parameters, macs, demo_parameters, demo_macs;  // of decoders alone
  Times times{};
};

struct Plan {
  std::size_t steps = 400, batch = 4, pictures = 100;  // pictures: held out, for the PSNR
  float rate = 2e-3f;                                  // the learning rate's peak
};
struct Outcome {
  double psnr = 0, loss = 0, seconds = 0;  // dB of the averaged weights; loss: of training, its last tenth's mean
};

// What all trainings share: pictures, and the demo's autoencoder, whose encoder makes latents of them and stays as it is.
struct Data {
  Data(int threads, const std::filesystem::path& model)
      : executor(threads, md::Precision::bf16), autoencoder(executor, model), pictures(1) {}
  Data(const Data&) = delete;  // its parts refer to each other
  Data& operator=(const Data&) = delete;

  md::Executor executor;
  emoji::Autoencoder autoencoder;
  emoji::VaePictures pictures;
};

// Random weights, packed as for generating; one pass to warm up, then `repetitions`.
template <std::size_t I>
Row measure(int threads, std::size_t repetitions);

// Trains variant I's decoder for the demo's latents and measures it.
template <std::size_t I>
Outcome train(const Plan& plan, std::uint64_t seed, Data& data);

}  // namespace decoders
