// SPDX-License-Identifier: Apache-2.0
// The ten-line user interface: a prompt becomes a picture, or changes one.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/exclusive_use.hpp"
#include "io/image.hpp"
#include "io/lora_file.hpp"
#include "io/tokenizer.hpp"
#include "layers/packed_weights.hpp"
#include "model_source.hpp"
#include "sampling.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct Request {
  std::string prompt;
  std::string negative{};  // what guidance leads away from; empty: no caption
  std::uint64_t seed = 0;
  std::optional<std::size_t> steps{};  // 1 to 1000; default: what the model's file says, else the configuration
  std::optional<float> guidance{};     // >= 0; at most 1: the prompt alone, half the work; default: likewise
};

// A loaded model. Generating allocates no memory but the picture and the tokenizer's own; it prints nothing and keeps no
// global state: any number of models may run at once. One model draws for one caller at a time; a second one, and one inside the
// callback of the first, gets an Error. Same request, same bytes, on any number of threads. In a process that was forked after
// loading it draws on one thread. What was moved from may only be destroyed or assigned to. F: what the weights are kept and
// multiplied in.
template <ModelConfig M, Format F = Format::fp32>
class TextToImage {
  using Text = TextEncoder<M.text>;
  using Net = Unet<M.unet>;
  using Autoencoder = Vae<M.vae>;
  using Sampler = Sampling<M>;
  using Weights = ModelWeights<M>;

 public:
  static constexpr ModelConfig config = M;
  static constexpr std::size_t width = M.vae.width, height = M.vae.height, context_length = M.text.length;
  static constexpr std::size_t parameters = reflect::parameters<Weights>();
  static constexpr Format format = F;
  static constexpr std::size_t weight_bytes = PackedWeights<Weights>::bytes(F);
  // Everything that one generation needs besides weights and kernel scratch.
  static constexpr std::size_t activation_bytes =
      4 * (aligned(Autoencoder::latent_floats) + aligned(Autoencoder::picture_floats) +
           std::max(Sampler::stack_floats(1), Autoencoder::Decoder::stack_floats(Plan::inference, 1)));

  // Reads and packs the weights of a file of this library, or of a folder as diffusers lays it out. Throws Error for one that is
  // not exactly this model, before anything of it is used. threads: 0 means all that the process may use; more
  // are cut to it (Executor).
  explicit TextToImage(const std::filesystem::path& path, int threads = 0) : TextToImage(path, {}, threads) {}
  // With adapters merged into the weights: drawing costs the same. Throws Error also as read_lora does.
  TextToImage(const std::filesystem::path& path, const std::vector<LoraFile>& loras, int threads = 0)
      : TextToImage(path, loras, threads, activation_bytes) {}

  // How it samples where a request does not say; which sampler is never asked of a request: a model is trained for one.
  const SamplingOptions& sampling() const { return sampling_; }

  // A prompt of more tokens than the model reads is cut as diffusers cuts it (what of it: tokenizer().encode_prompt); an empty
  // one draws without a caption. Throws Error for one that is not UTF-8 or over 65,536 bytes, for steps or guidance out of range,
  // and for a model that was moved from. on_step(Progress) is called after every step; if it returns false, generation stops and
  // the picture is empty (width 0).
  template <class OnStep>
  Image generate(const Request& request, OnStep&& on_step) {
    const Ids ids = encode(request);
    Image image(width, height);
    const SamplingOptions o = options(request, sampling_);
    if (!generate(ids, request.seed, o.steps, o.guidance, image.rgb, on_step)) return {};
    return image;
  }
  Image generate(const Request& request) {
    return generate(request, [](Progress) { return true; });
  }

  // The same from token ids (prompt, then negative; context_length each) into rgb [height][width][3]; allocates nothing.
  // False: cancelled, rgb untouched.
  template <class OnStep>
  bool generate(std::span<const std::int32_t, 2 * context_length> ids, std::uint64_t seed, std::size_t steps, float guidance,
                std::span<std::uint8_t> rgb, OnStep&& on_step) {
    check(ids, steps, guidance);
    check_bytes("rgb", rgb.size());
    const auto use = exclusive_use();
    Stack stack(activations_);
    Context c = context(stack);
    float* z = stack.take(Autoencoder::latent_floats);
    float* picture = stack.take(Autoencoder::picture_floats);
    const Weights& weights = weights_.weights();
    if (!Sampler::run(c, weights.text_encoder, weights.unet, ids.data(), &seed, {sampling_.kind, steps, guidance}, z, on_step))
      return false;
    decode(c, z, picture);
    for (std::size_t i = 0; i < rgb.size(); ++i) rgb[i] = to_byte(picture[i]);
    note_peak(stack);
    return true;
  }

  const Tokenizer& tokenizer() const { return tokenizer_; }
  const Metadata& metadata() const { return metadata_; }
  int threads() const { return executor_.threads(); }
  // Held by this object: weights, activations, kernel scratch.
  std::size_t memory_bytes() const { return weights_.bytes() + activations_.bytes() + executor_.scratch_bytes(); }
  // The most that generating has used so far: activation_bytes, or less without guidance.
  std::size_t peak_activation_bytes() const { return peak_activation_bytes_; }

 protected:
  using Ids = std::array<std::int32_t, 2 * context_length>;  // prompt, then negative

  TextToImage(const std::filesystem::path& path, const std::vector<LoraFile>& loras, int threads, std::size_t activations)
      : TextToImage(path, ModelSource<M>(path), loras, threads, activations) {}

  Ids encode(const Request& request) const {
    check_usable();
    Ids ids{};
    const auto prompt = tokenizer_.encode(request.prompt, context_length);
    const auto negative = encode_negative(request.negative);
    std::copy(prompt.begin(), prompt.end(), ids.begin());
    std::copy(negative.begin(), negative.end(), ids.begin() + context_length);
    return ids;
  }
  // Held while the memory is in use. Throws Error where it is already.
  ExclusiveUse::Guard exclusive_use() {
    check_usable();
    return {use_, "model: expected one caller at a time, found two, or a call from inside its own callback; load one for each"};
  }
  void check_usable() const {
    if (!executor_.usable()) throw Error("model: expected a loaded one, found one that was moved from");
  }
  static SamplingOptions options(const Request& request, const SamplingOptions& defaults) {
    return {defaults.kind, request.steps.value_or(defaults.steps), request.guidance.value_or(defaults.guidance)};
  }
  static void check_bytes(const char* what, std::size_t bytes) {
    if (bytes != width * height * 3)
      throw Error(detail::join({what, ": expected ", width * height * 3, " bytes, found ", bytes}));
  }
  static void check(std::span<const std::int32_t> ids, std::size_t steps, float guidance) {
    if (steps < 1 || steps > 1000) throw Error(detail::join({"steps: expected 1 to 1000, found ", steps}));
    if (!(guidance >= 0.0f) || !std::isfinite(guidance))
      throw Error("guidance: expected a number of at least 0, found " + std::to_string(guidance));
    for (std::int32_t id : ids)
      if (id < 0 || static_cast<std::size_t>(id) >= M.text.vocabulary)
        throw Error(detail::join({"token id: expected 0 to ", M.text.vocabulary - 1, ", found ", std::to_string(id)}));
  }
  Context context(Stack& stack) const { return {.executor = executor_, .stack = stack, .batch = 1, .packed = true, .format = F}; }
  // z becomes what the decoder reads. Throws Error where numbers have overflowed: not a black picture instead.
  void decode(Context& c, float* z, float* picture) const {
    check_numbers(z, Autoencoder::latent_floats);
    Autoencoder::to_picture(c, weights_.weights().vae, z, picture);
    check_numbers(picture, Autoencoder::picture_floats);
  }
  // Beyond the limit, sums of squares in norms overflow, and what comes out is finite but flat.
  static void check_numbers(const float* values, std::size_t n) {
    constexpr float limit = 1e15f;
    if (!std::all_of(values, values + n, [](float x) { return std::abs(x) <= limit; }))
      throw Error("numbers overflowed while drawing: the weights, the scale of an adapter or guidance are too large");
  }
  static std::uint8_t to_byte(float value) {
    const float v = value * 127.5f + 127.5f;
    return static_cast<std::uint8_t>(v > 0.0f ? std::min(v, 255.0f) + 0.5f : 0.0f);  // NaN: black
  }

  const Weights& weights() const { return weights_.weights(); }
  const AlignedBuffer& activations() const { return activations_; }
  void note_peak(const Stack& stack) { peak_activation_bytes_ = std::max(peak_activation_bytes_, 4 * stack.peak()); }

 private:
  TextToImage(const std::filesystem::path& path, const ModelSource<M>& source, const std::vector<LoraFile>& loras, int threads,
              std::size_t activations)
      : executor_(threads),
        tokenizer_(source.tokenizer()),
        metadata_(source.metadata()),
        sampling_(sampling_of(metadata_, Sampler::defaults, path.string())),
        weights_(F) {
    {
      LoraMerge<Weights> merge(weights_.weights(), loras);
      source.read(weights_.weights(),
                  [&](const reflect::LeafView& leaf, std::span<const float> values) { weights_.set(leaf, merge(leaf, values)); });
    }
    weights_.finish();
    activations_ = AlignedBuffer(activations / 4);  // after what reading needed is free again
  }

  std::vector<std::int32_t> encode_negative(const std::string& text) const {
    try {
      return tokenizer_.encode(text, context_length);
    } catch (const Error& e) {
      throw Error(std::string("negative ") + e.what());
    }
  }

  ExclusiveUse use_;
  Executor executor_;
  Tokenizer tokenizer_;
  Metadata metadata_;
  SamplingOptions sampling_;
  PackedWeights<Weights> weights_;
  AlignedBuffer activations_;
  std::size_t peak_activation_bytes_ = 0;
};

// A loaded model that also draws from pictures: variations of one (Meng et al., arXiv 2108.01073), and parts painted anew. All
// that TextToImage promises holds; it needs somewhat more memory for activations.
template <ModelConfig M, Format F = Format::fp32>
class ImageToImage : public TextToImage<M, F> {
  using Base = TextToImage<M, F>;
  using Autoencoder = Vae<M.vae>;
  using Sampler = Sampling<M>;
  static constexpr std::size_t latents = Autoencoder::latent_floats, pixels = Autoencoder::picture_floats,
                               cells = Autoencoder::latent_height * Autoencoder::latent_width;

 public:
  using Base::height, Base::width, Base::context_length;
  static constexpr std::size_t activation_bytes =
      4 * (2 * aligned(latents) + aligned(cells) + aligned(pixels) +
           std::max({Sampler::stack_floats(1), Autoencoder::Decoder::stack_floats(Plan::inference, 1),
                     aligned(2 * latents) + Autoencoder::Encoder::stack_floats(Plan::inference, 1)}));

  explicit ImageToImage(const std::filesystem::path& path, int threads = 0) : ImageToImage(path, {}, threads) {}
  ImageToImage(const std::filesystem::path& path, const std::vector<LoraFile>& loras, int threads = 0)
      : Base(path, loras, threads, activation_bytes) {}

  // A picture of the prompt that resembles the one given, the less the greater the strength (in (0, 1]): noise is added as it is
  // at that share of the way to noise, and taken away again in that share of the steps, at least one. Throws Error for a picture
  // that is not width x height, and as generate does. Cancelled: an empty picture.
  template <class OnStep>
  Image image_to_image(const Image& picture, const Request& request, float strength, OnStep&& on_step) {
    check_size("picture", picture);
    return edit(picture, {}, request, strength, on_step);
  }
  Image image_to_image(const Image& picture, const Request& request, float strength = 0.6f) {
    return image_to_image(picture, request, strength, [](Progress) { return true; });
  }

  // What steps default to where the model's are fewer: a single one, from noise alone, would not see what is kept.
  static constexpr std::size_t inpaint_steps = 4;
  // The picture with the prompt painted where the mask is white. Where it is black, the picture stays byte for byte; between,
  // both are mixed. The prompt is of the whole picture. Noise in what is kept follows the sampler's times (Lugmayr et al., arXiv
  // 2201.09865, section 4.1). strength: below 1, what is painted over still shows through. Throws Error for a picture or mask
  // that is not width x height, a mask that is black alone, and as generate does.
  template <class OnStep>
  Image inpaint(const Image& picture, const Image& mask, const Request& request, float strength, OnStep&& on_step) {
    check_size("picture", picture);
    check_size("mask", mask);
    return edit(picture, mask.rgb, request, strength, on_step);
  }
  Image inpaint(const Image& picture, const Image& mask, const Request& request, float strength = 1.0f) {
    return inpaint(picture, mask, request, strength, [](Progress) { return true; });
  }

  // Both from token ids, as generate; picture, mask (empty: paint everything) and rgb: [height][width][3]; rgb may be picture.
  // Allocates nothing. False: cancelled, rgb untouched.
  template <class OnStep>
  bool edit(std::span<const std::int32_t, 2 * context_length> ids, std::uint64_t seed, std::size_t steps, float guidance,
            std::span<const std::uint8_t> picture, std::span<const std::uint8_t> mask, float strength,
            std::span<std::uint8_t> rgb, OnStep&& on_step) {
    Base::check(ids, steps, guidance);
    Base::check_bytes("rgb", rgb.size());
    Base::check_bytes("picture", picture.size());
    if (!mask.empty()) Base::check_bytes("mask", mask.size());
    if (!(strength > 0.0f && strength <= 1.0f))
      throw Error("strength: expected a number above 0 and at most 1, found " + std::to_string(strength));
    const auto use = Base::exclusive_use();
    Stack stack(Base::activations());
    Context c = Base::context(stack);
    float *z = stack.take(latents), *known = stack.take(latents), *painted = stack.take(cells), *image = stack.take(pixels);
    if (!mask.empty()) shrink(mask, painted);
    for (std::size_t i = 0; i < pixels; ++i) image[i] = static_cast<float>(picture[i]) / 127.5f - 1.0f;
    encode(c, image, known);
    const SamplingSource source{known, strength, mask.empty() ? nullptr : painted};
    if (!Sampler::run(c, Base::weights().text_encoder, Base::weights().unet, ids.data(), &seed,
                      {Base::sampling().kind, steps, guidance}, source, z, on_step))
      return false;
    Base::decode(c, z, image);
    for (std::size_t i = 0; i < rgb.size(); ++i) {
      const float share = mask.empty() ? 1.0f : opacity(mask, i / 3);
      const std::uint8_t drawn = Base::to_byte(image[i]);
      rgb[i] =
          static_cast<std::uint8_t>(static_cast<float>(picture[i]) * (1.0f - share) + static_cast<float>(drawn) * share + 0.5f);
    }
    Base::note_peak(stack);
    return true;
  }

 private:
  template <class OnStep>
  Image edit(const Image& picture, std::span<const std::uint8_t> mask, const Request& request, float strength, OnStep&& on_step) {
    const auto ids = Base::encode(request);
    SamplingOptions defaults = Base::sampling();
    if (!mask.empty()) defaults.steps = std::max(defaults.steps, inpaint_steps);
    const SamplingOptions o = Base::options(request, defaults);
    Image image(width, height);
    if (!edit(ids, request.seed, o.steps, o.guidance, picture.rgb, mask, strength, image.rgb, on_step)) return {};
    return image;
  }

  static void check_size(const char* what, const Image& image) {
    if (image.width != width || image.height != height)
      throw Error(detail::join({what, ": expected ", width, " x ", height, " pixels, found ", image.width, " x ", image.height}));
    Base::check_bytes(what, image.rgb.size());
  }

  // In [0, 1]: how much of a pixel is painted.
  static float opacity(std::span<const std::uint8_t> mask, std::size_t pixel) {
    const std::uint8_t* p = &mask[3 * pixel];
    return static_cast<float>(p[0] + p[1] + p[2]) / 765.0f;
  }
  // A place of the latents is painted as much as any of its pixels is. Throws Error where none is.
  static void shrink(std::span<const std::uint8_t> mask, float* painted) {
    constexpr std::size_t factor = height / Autoencoder::latent_height;
    std::fill_n(painted, cells, 0.0f);
    for (std::size_t y = 0; y < height; ++y)
      for (std::size_t x = 0; x < width; ++x) {
        float& cell = painted[y / factor * Autoencoder::latent_width + x / factor];
        cell = std::max(cell, opacity(mask, y * width + x));
      }
    if (std::all_of(painted, painted + cells, [](float p) { return p == 0.0f; }))
      throw Error("mask: expected white where to paint, found black alone");
  }

  // The mean of the latents that the encoder gives.
  void encode(Context& c, const float* image, float* z) const { Autoencoder::to_latents(c, Base::weights().vae, image, z); }
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
