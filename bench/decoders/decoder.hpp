// SPDX-License-Identifier: Apache-2.0
// One variant's measurement and training. Instantiated in a translation unit for each variant.
#pragma once

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>

#include "../random_weights.hpp"
#include "decoders.hpp"
#include "mobilediffusion/models/vae.hpp"
#include "mobilediffusion/train/reconstruction_loss.hpp"
#include "mobilediffusion/train/state.hpp"

namespace decoders {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <md::VaeConfig C>
constexpr std::pair<std::size_t, std::size_t> decoder_size() {  // parameters, MACs
  using Net = md::Vae<C>;
  std::size_t parameters = md::reflect::parameters<typename Net::Decoder::Weights>();
  if constexpr (C.quant_conv) parameters += md::reflect::parameters<typename Net::Decoder::PostQuant::Weights>();
  return {parameters, Net::decoder_macs};
}

template <md::VaeConfig C>
std::vector<double> decoding_times(int threads, std::size_t repetitions, md::Format format) {
  using Net = md::Vae<C>;
  const md::Executor ex(threads);
  const md::PackedWeights<typename Net::Weights> weights = bench::random_weights<typename Net::Weights>(1, format);
  const md::AlignedBuffer activations(Net::Decoder::stack_floats(md::Plan::inference, 1));
  std::vector<float> z(Net::latent_floats), y(Net::picture_floats);
  md::Random(1, 1).normals(z);
  std::vector<double> seconds;
  for (std::size_t i = 0; i <= repetitions; ++i) {
    md::Stack stack(activations);
    md::Context c{.executor = ex, .stack = stack, .batch = 1, .packed = true, .format = format};
    typename Net::Decoder::Saved saved{};
    const auto start = std::chrono::steady_clock::now();
    Net::decode(c, weights.weights(), z.data(), y.data(), saved);
    if (i > 0) seconds.push_back(seconds_since(start));
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

template <std::size_t I>
Row measure(int threads, std::size_t repetitions) {
  constexpr auto full = decoder_size<variants[I].full>(), demo = decoder_size<variants[I].demo>();
  Row row{full.first, full.second, demo.first, demo.second};
  if (repetitions > 0)
    row.times = {decoding_times<variants[I].full>(threads, repetitions, md::Format::bf16),
                 decoding_times<variants[I].full>(threads, repetitions, md::Format::int8)};
  return row;
}

// The demo's encoder and a decoder in training, as vae_psnr wants them.
template <md::VaeConfig C>
struct Pair {
  Data& data;
  const typename md::Vae<C>::Weights& weights;
  md::AlignedBuffer& memory;

  void encode(const float* pictures, std::size_t count, float* z) { data.autoencoder.encode(pictures, count, z); }
  void decode(const float* z, std::size_t count, float* pictures) {
    md::Stack stack(memory);
    md::Context c{data.executor, stack, count, false};
    typename md::Vae<C>::Decoder::Saved saved{};
    md::Vae<C>::decode(c, weights, z, pictures, saved);
  }
};

template <md::VaeConfig C>
Outcome train_decoder(const Plan& plan, std::uint64_t seed, Data& data) {
  using Net = md::Vae<C>;
  using Decoder = typename Net::Decoder;
  constexpr std::size_t latents = Net::latent_floats, picture = Net::picture_floats;
  static_assert(latents == emoji::Autoencoder::latents && picture == emoji::picture_bytes, "the demo's latents and pictures");
  const auto start = std::chrono::steady_clock::now();
  md::train::TrainState<typename Net::Weights> state;
  md::train::initialize(state.weights, seed);
  state.start_average();
  md::train::OptimizerOptions options;
  options.adamw.weight_decay = 0.0f;
  options.schedule = {plan.rate, 0.02f * plan.rate, plan.steps / 10, plan.steps / 3, plan.steps};
  options.ema_decay = 0.98f;

  const std::size_t batch = plan.batch;
  md::AlignedBuffer memory(Decoder::stack_floats(md::Plan::training, batch) + Decoder::backward_floats(batch) +
                           Decoder::stack_floats(md::Plan::inference, 1));
  std::vector<float> x(batch * picture), y(batch * picture), dy(batch * picture);
  std::vector<float> z(batch * latents), dz(batch * latents), noise(batch * latents);
  double loss = 0;
  std::size_t in_loss = 0;
  while (state.step < plan.steps) {
    // The same pictures for every variant; other ones for another seed.
    const std::uint64_t first = seed * 1'000'000 + state.step * batch;
    for (std::size_t i = 0; i < batch; ++i) data.pictures.render(data.pictures.scene(first + i), &x[i * picture]);
    for (std::size_t i = 0; i < batch; ++i) data.autoencoder.encode(&x[i * picture], 1, &z[i * latents]);
    // As the demo's decoder was trained: a diffusion model's latents are never exact. These have unit variance.
    md::Random(seed, 0x7000000000u + state.step).normals(noise);
    for (std::size_t i = 0; i < z.size(); ++i) z[i] += 0.05f * noise[i];

    state.zero_gradients();
    md::Stack stack(memory);
    md::Context c{data.executor, stack, batch, false};
    typename Decoder::Saved saved{};
    stack.keep(true);
    Net::decode(c, state.weights, z.data(), y.data(), saved);
    stack.keep(false);
    const md::train::ReconstructionSums sums =
        md::train::reconstruction_loss<C.height, C.width>(data.executor, {}, x.data(), y.data(), batch, batch, dy.data());
    Net::decode_backward(c, state.weights, state.gradients, saved, dy.data(), dz.data());
    state.update(data.executor, options,
                 [](std::string_view name) { return name.starts_with("decoder.") || name.starts_with("post_quant_conv."); });
    if (state.step > plan.steps - plan.steps / 10) {
      loss += sums.loss / static_cast<double>(x.size());
      ++in_loss;
    }
  }
  Pair<C> trained{data, state.average, memory};
  const double psnr = emoji::vae_psnr(trained, data.pictures, plan.pictures);
  return {psnr, in_loss == 0 ? 0.0 : loss / static_cast<double>(in_loss), seconds_since(start)};
}

template <std::size_t I>
Outcome train(const Plan& plan, std::uint64_t seed, Data& data) {
  return train_decoder<variants[I].demo>(plan, seed, data);
}

}  // namespace decoders
