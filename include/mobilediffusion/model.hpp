// SPDX-License-Identifier: Apache-2.0
// A loaded model: weights and tokenizer, read once, shared by any number of sessions that draw with it.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/lora_file.hpp"
#include "io/textual_inversion.hpp"
#include "layers/packed_weights.hpp"
#include "model_source.hpp"
#include "sampling.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Copies share what was loaded, which never changes; the last of them and of their sessions frees it. F: what the weights are
// kept and multiplied in. What was moved from may only be destroyed or assigned to.
template <ModelConfig M, Format F = Format::fp32>
class Model {
 public:
  using Weights = ModelWeights<M>;
  static constexpr ModelConfig config = M;
  static constexpr Format format = F;
  static constexpr std::size_t parameters = reflect::parameters<Weights>();
  static constexpr std::size_t weight_bytes = PackedWeights<Weights>::bytes(F);

  // Reads and packs the weights of a file of this library, or of a folder as diffusers lays it out; adapters are merged into
  // them, on all threads that the process may use, so that drawing costs the same. Throws Error for one that is not exactly this
  // model, before anything of it is used, and as LoraMerge and read_textual_inversions do.
  explicit Model(const std::filesystem::path& path, const std::vector<LoraFile>& loras = {}) : Model(ModelPaths{path}, loras) {}
  explicit Model(const ModelPaths& paths, const std::vector<LoraFile>& loras = {},
                 const std::vector<EmbeddingFile>& embeddings = {}, MemoryResource* memory = nullptr)
      : Model(ModelSource<M>(paths), loras, embeddings, memory) {}
  // From bytes of a file that are in memory, such as static data of the program: nothing of them is needed any more once it is
  // made. name: for messages.
  explicit Model(std::span<const std::byte> bytes, const std::string& name = "in memory")
      : Model(ModelSource<M>(SafetensorsFile(bytes, name))) {}
  // From a part of a file, such as an app's asset in its package.
  Model(const std::filesystem::path& path, const FilePart& part) : Model(ModelSource<M>(SafetensorsFile(path, part))) {}
  // From what was opened and found to be this model. memory: of the weights; null means the free store. (A template, so that
  // braces mean ModelPaths.)
  template <std::same_as<ModelSource<M>> Source>
  explicit Model(const Source& source, const std::vector<LoraFile>& loras = {}, const std::vector<EmbeddingFile>& embeddings = {},
                 MemoryResource* memory = nullptr)
      : loaded_(std::make_shared<const Loaded>(source, loras, read_inversions(embeddings), memory)) {}

  const Weights& weights() const { return loaded().weights.weights(); }
  const Tokenizer& tokenizer() const { return loaded().tokenizer; }
  const Metadata& metadata() const { return loaded().metadata; }
  // How it samples where a request does not say.
  const SamplingOptions& sampling() const { return loaded().sampling; }
  const NoiseSchedule& schedule() const { return loaded().schedule; }
  // Whether an empty negative prompt is zeros to the UNet instead of what the text encoders make of it (Stable Diffusion XL).
  bool zeros_for_empty_negative() const { return loaded().zeros; }
  // What people should know of how it was read, such as a scheduler that is drawn with its nearest relative; empty: nothing.
  const std::string& note() const { return loaded().note; }
  // Of the text encoder: its vocabulary, and the vectors of textual inversion. Ids are below it.
  std::size_t tokens() const { return M.text.vocabulary + loaded().vectors; }
  // Held by it and its copies together.
  std::size_t memory_bytes() const { return loaded().weights.bytes(); }

 private:
  static std::vector<TextualInversion> read_inversions(const std::vector<EmbeddingFile>& files) {
    if (is_present(M.text_2) && !files.empty())
      throw Error(detail::join({"file ", detail::printable(detail::path_text(files.front().path)),
                                ": expected no textual inversion for a model of two text encoders"}));
    return read_textual_inversions(files, M.text.width);
  }
  struct Loaded {
    Loaded(const ModelSource<M>& source, const std::vector<LoraFile>& loras, const std::vector<TextualInversion>& inversions,
           MemoryResource* memory)
        : vectors(count_vectors(inversions)),
          tokenizer(source.tokenizer().with_tokens(tokens_of(inversions), M.text.vocabulary)),
          metadata(source.metadata()),
          sampling(source.sampling(Sampling<M>::defaults)),
          schedule(source.schedule()),
          note(source.note()),
          zeros(source.zeros_for_empty_negative()),
          weights(F, {token_table, aligned(vectors * M.text.width)}, memory) {
      const Executor executor(loras.empty() ? 1 : 0);
      LoraMerge<Weights> merge(weights.weights(), loras, executor);
      source.read(weights.weights(),
                  [&](const reflect::LeafView& leaf, std::span<const float> values) { weights.set(leaf, merge(leaf, values)); });
      merge.finish();
      weights.finish();
      float* row =
          weights.weights().text_encoder.text_model.embeddings.token_embedding.weight.data + M.text.vocabulary * M.text.width;
      for (const TextualInversion& t : inversions) row = std::copy(t.rows.begin(), t.rows.end(), row);
    }
    static constexpr std::string_view token_table = "text_encoder.text_model.embeddings.token_embedding.weight";
    static std::vector<AddedToken> tokens_of(const std::vector<TextualInversion>& inversions) {
      std::vector<AddedToken> tokens;
      for (const TextualInversion& t : inversions) tokens.push_back(t.token());
      return tokens;
    }
    static std::size_t count_vectors(const std::vector<TextualInversion>& inversions) {
      std::size_t n = 0;
      for (const TextualInversion& t : inversions) n += t.vectors;
      return n;
    }

    std::size_t vectors;
    Tokenizer tokenizer;
    Metadata metadata;
    SamplingOptions sampling;
    NoiseSchedule schedule;
    std::string note;
    bool zeros;
    PackedWeights<Weights> weights;
  };
  const Loaded& loaded() const {
    if (!loaded_) throw Error("model: expected a loaded one, found one that was moved from");
    return *loaded_;
  }

  std::shared_ptr<const Loaded> loaded_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
