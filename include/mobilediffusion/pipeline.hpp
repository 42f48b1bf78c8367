// SPDX-License-Identifier: Apache-2.0
// The ten-line user interface: a prompt becomes a picture, or changes one.
#pragma once

#include "core/begin.hpp"

#include <filesystem>
#include <vector>

#include "session.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// A model and its one session. For several that share the weights, for batches and latents: Model and Session.
template <ModelConfig M, Format F = Format::fp32>
class TextToImage : public Session<M, F> {
 public:
  static constexpr std::size_t parameters = Model<M, F>::parameters, weight_bytes = Model<M, F>::weight_bytes;

  // Reads and packs the weights of a file of this library, or of a folder as diffusers lays it out. Throws Error for one that is
  // not exactly this model, before anything of it is used. threads: 0 means all that the process may use; more
  // are cut to it (Executor).
  explicit TextToImage(const std::filesystem::path& path, int threads = 0) : TextToImage(path, {}, threads) {}
  // With adapters merged into the weights: drawing costs the same. Throws Error also as read_lora does.
  TextToImage(const std::filesystem::path& path, const std::vector<LoraFile>& loras, int threads = 0)
      : Session<M, F>(Model<M, F>(path, loras), {.threads = threads}) {}

  // Held by this object: weights, activations, kernel scratch.
  std::size_t memory_bytes() const { return Session<M, F>::memory_bytes() + this->model().memory_bytes(); }
};

// The name that says so where pictures are drawn from pictures.
template <ModelConfig M, Format F = Format::fp32>
using ImageToImage = TextToImage<M, F>;

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
