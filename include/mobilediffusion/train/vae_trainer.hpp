// SPDX-License-Identifier: Apache-2.0
// Training of the autoencoder: reconstruction in value and in edges, a light pull of the posterior to N(0, 1), and noise on
// the latents, so that the decoder forgives what a diffusion model cannot predict.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "../core/random.hpp"
#include "../models/vae.hpp"
#include "initialize.hpp"
#include "passes.hpp"
#include "reconstruction_loss.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train {

struct VaeOptions {
  OptimizerOptions optimizer{};
  std::size_t batch = 8, micro_batch = 4;  // a step has batch / micro_batch passes (Passes says how they use threads)
  bool freeze_encoder = false;             // train the decoder alone: latents, and models trained on them, stay valid
  float absolute = 1.0f, edges = 0.5f, squared = 0.3f, kl = 1e-4f;  // weights of the losses
  float latent_noise = 0.05f;                                       // deviation, relative to that of the latents
  std::uint64_t seed = 1;
};

struct VaeReport {
  float loss = 0, mse = 0, kl = 0, latent_deviation = 0;
  StepReport step{};
};

template <VaeConfig C>
class VaeTrainer {
  static_assert(
      C.kind == VaeKind::autoencoder_kl,
      "mobilediffusion: the VAE's trainer needs the means and variances of an AutoencoderKL; a tiny one learns another's "
      "latents; set `kind` to autoencoder_kl");
  using Model = Vae<C>;
  static constexpr std::size_t latents = Model::latent_floats, picture = Model::picture_floats, channels = C.latent_channels;

 public:
  TrainState<typename Model::Weights> state;

  VaeTrainer(std::reference_wrapper<const Executor> ex, VaeOptions options)
      : ex_(ex),
        options_(checked(options)),
        passes_(ex, options.batch / options.micro_batch, training_floats(options.micro_batch)),
        memory_(inference_floats),
        stack_(memory_) {
    initialize(state.weights, options.seed);
    state.start_average();
  }

  // pictures [batch][height][width][3] in [-1, 1]
  VaeReport step(const float* pictures) {
    VaeReport report = gradients(pictures);
    report.step = state.update(ex_, options_.optimizer, [&](std::string_view name) {
      return !options_.freeze_encoder || name.starts_with("decoder.") || name.starts_with("post_quant_conv.");
    });
    return report;
  }

  // The loss that the next step would see and its gradient in state.gradients; changes nothing else. The size of the latent
  // noise, relative to the latents of its pass, counts as a constant.
  VaeReport gradients(const float* pictures) {
    const std::size_t count = options_.batch / options_.micro_batch;
    std::vector<Losses> losses(count);
    passes_.run(state, [&](std::size_t i, const Executor& ex, Stack& stack, typename Model::Weights& gradients) {
      losses[i] = pass(pictures + i * options_.micro_batch * picture, i * options_.micro_batch, ex, stack, gradients);
    });
    Losses sum;
    for (const Losses& l : losses) {
      sum.reconstruction += l.reconstruction;
      sum.squared += l.squared;
      sum.kl += l.kl;
      sum.latent_squares += l.latent_squares;
    }
    const double pixels = static_cast<double>(options_.batch * picture), z = static_cast<double>(options_.batch * latents);
    VaeReport report;
    report.mse = static_cast<float>(sum.squared / pixels);
    report.kl = static_cast<float>(sum.kl / z);
    report.loss = static_cast<float>(sum.reconstruction / pixels) + options_.kl * report.kl;
    report.latent_deviation = static_cast<float>(std::sqrt(sum.latent_squares / z));
    return report;
  }

  // Pictures [count][height][width][3] -> posterior means [count][latents], with the averaged weights.
  void encode(const float* pictures, std::size_t count, float* out) {
    for (std::size_t k = 0; k < count; ++k) {
      Scope scope(stack_);
      Context c{ex_, stack_, 1, false};
      float* moments = stack_.take(2 * latents);
      typename Model::Encoder::Saved saved{};
      Model::encode(c, state.average, pictures + k * picture, moments, saved);
      each_latent(1, moments, [&](std::size_t i, float mean, float) { out[k * latents + i] = mean; });
    }
  }
  // Latents [count][latents] -> pictures, with the averaged weights.
  void decode(const float* z, std::size_t count, float* pictures) {
    for (std::size_t k = 0; k < count; ++k) {
      Scope scope(stack_);
      Context c{ex_, stack_, 1, false};
      typename Model::Decoder::Saved saved{};
      Model::decode(c, state.average, z + k * latents, pictures + k * picture, saved);
    }
  }

  // Divides the latents by `deviation` and undoes it in the decoder, so that a scaling factor of 1 gives unit variance.
  void normalize_latents(float deviation) {
    for (typename Model::Weights* w : {&state.weights, &state.average}) {
      static_assert(!C.quant_conv,
                    "mobilediffusion: normalize_latents folds the scale into conv_out and conv_in; set `quant_conv` to false");
      auto& out = w->encoder.conv_out;
      const std::size_t row = out.weight.count / out.bias.count;
      for (std::size_t k = 0; k < channels; ++k) {
        for (std::size_t i = 0; i < row; ++i) out.weight.data[k * row + i] /= deviation;
        out.bias.data[k] /= deviation;
        out.bias.data[channels + k] -= 2.0f * std::log(deviation);
      }
      auto& in = w->decoder.conv_in.weight;
      for (std::size_t i = 0; i < in.count; ++i) in.data[i] *= deviation;
    }
  }

 private:
  static constexpr std::size_t training_floats(std::size_t n) {
    Planned p{Plan::training};
    p.take(2 * n * latents).part(Model::Encoder::stack_floats(Plan::training, n));
    p.take(n * latents).take(n * latents).take(n * latents).take(n * picture);
    p.part(Model::Decoder::stack_floats(Plan::training, n));
    p.plan = Plan::inference;
    p.take(n * picture).take(n * latents).take(2 * n * latents);
    return p.part(Model::Decoder::backward_floats(n)).part(Model::Encoder::backward_floats(n)).peak;
  }
  static constexpr std::size_t inference_floats =
      std::max(Model::Encoder::stack_floats(Plan::inference, 1), Model::Decoder::stack_floats(Plan::inference, 1)) +
      aligned(2 * latents);

  static VaeOptions checked(VaeOptions options) {
    if (options.batch == 0 || options.micro_batch == 0 || options.batch % options.micro_batch != 0)
      throw Error("training: the batch must be a multiple of the micro-batch, both at least 1");
    return options;
  }

  struct Losses {  // sums of one pass
    double reconstruction = 0, squared = 0, kl = 0, latent_squares = 0;
  };

  // Forward and backward of samples first to first + micro_batch; pictures: theirs.
  Losses pass(const float* pictures, std::size_t first, const Executor& ex, Stack& stack,
              typename Model::Weights& gradients) const {
    const std::size_t batch = options_.micro_batch, n = batch * latents, pixels = batch * picture;
    Context c{ex, stack, batch, false};
    typename Model::Encoder::Saved encoder{};
    typename Model::Decoder::Saved decoder{};
    float* moments = stack.take(2 * n);
    stack.keep(!options_.freeze_encoder);
    Model::encode(c, state.weights, pictures, moments, encoder);
    stack.keep(true);

    float *z = stack.take(n), *eps = stack.take(n), *noise = stack.take(n);
    for (std::size_t i = 0; i < batch; ++i) {
      const std::uint64_t sample = state.step * options_.batch + first + i;
      Random(options_.seed, 0x5000000000u + sample).normals({eps + i * latents, latents});
      Random(options_.seed, 0x6000000000u + sample).normals({noise + i * latents, latents});
    }
    Losses losses;
    each_latent(batch, moments, [&](std::size_t, float mean, float) {
      losses.latent_squares += static_cast<double>(mean) * static_cast<double>(mean);
    });
    const float deviation = static_cast<float>(std::sqrt(losses.latent_squares / static_cast<double>(n)));
    each_latent(batch, moments, [&](std::size_t i, float mean, float log_variance) {
      z[i] = mean + std::exp(0.5f * log_variance) * eps[i] + options_.latent_noise * deviation * noise[i];
    });
    float* y = stack.take(pixels);
    Model::decode(c, state.weights, z, y, decoder);
    stack.keep(false);

    float *dy = stack.take(pixels), *dz = stack.take(n), *d_moments = stack.take(2 * n);
    const ReconstructionSums sums = reconstruction_loss<C.height, C.width>(
        ex, {.absolute = options_.absolute, .edges = options_.edges, .squared = options_.squared}, pictures, y, batch,
        options_.batch, dy);
    losses.reconstruction = sums.loss;
    losses.squared = sums.squared;
    Model::decode_backward(c, state.weights, gradients, decoder, dy, dz);
    const float per_latent = options_.kl / static_cast<float>(options_.batch * latents);
    each_latent(batch, moments, [&](std::size_t i, float mean, float log_variance) {
      const float variance = std::exp(log_variance);
      losses.kl += 0.5 * static_cast<double>(mean * mean + variance - 1.0f - log_variance);
      const std::size_t at = i / channels * 2 * channels + i % channels;
      d_moments[at] = dz[i] + per_latent * mean;
      d_moments[at + channels] = inside(moments[at + channels])
                                     ? dz[i] * eps[i] * 0.5f * std::sqrt(variance) + per_latent * 0.5f * (variance - 1.0f)
                                     : 0.0f;
    });
    if (!options_.freeze_encoder) Model::encode_backward(c, state.weights, gradients, encoder, d_moments);
    return losses;
  }

  static bool inside(float log_variance) { return log_variance > -30.0f && log_variance < 20.0f; }
  template <class F>
  static void each_latent(std::size_t batch, const float* moments, F&& f) {
    for (std::size_t p = 0; p < batch * latents / channels; ++p)
      for (std::size_t k = 0; k < channels; ++k)
        f(p * channels + k, moments[p * 2 * channels + k], std::clamp(moments[p * 2 * channels + channels + k], -30.0f, 20.0f));
  }

  const Executor& ex_;
  VaeOptions options_;
  Passes<typename Model::Weights> passes_;
  AlignedBuffer memory_;  // of encode and decode
  Stack stack_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::train

#include "../core/end.hpp"
