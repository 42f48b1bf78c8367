// SPDX-License-Identifier: Apache-2.0
// Drawing with a loaded model: memory, threads and what a request says. A model has any number of sessions, each for one caller.
#pragma once

#include "core/begin.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/exclusive_use.hpp"
#include "io/image.hpp"
#include "model.hpp"
#include "prompts.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

enum class NoiseKind {
  counted,  // the library's own: any number of a stream costs the same, so pictures of a batch do not depend on each other
  torch     // torch.Generator("cpu").manual_seed(seed), in the order of diffusers: the pictures that it draws for a seed
};

// How a request's prompts are read.
struct PromptOptions {
  bool weights = false;  // (words:1.3) as parse_prompt_weights reads it; else brackets are plain text, as in diffusers
  // The text encoder's last layers that are left out, as diffusers counts; AUTOMATIC1111's "Clip skip" is one more.
  std::size_t clip_skip = 0;
};

struct Request {
  std::string prompt;
  std::string negative{};  // what guidance leads away from; empty: no caption
  std::uint64_t seed = 0;
  std::optional<std::size_t> steps{};  // at least 1; default: what the model's file says, else the configuration
  std::optional<float> guidance{};     // >= 0; at most 1: the prompt alone, half the work; default: likewise
  std::optional<Sampler> sampler{};    // default: the one that the model was trained or published for
  NoiseKind noise = NoiseKind::counted;
  PromptOptions words{};
  std::vector<float> latents{};  // the noise to begin with, instead of the seed's: [height][width][channels] of the latents
};

struct SessionOptions {
  int threads = 0;        // 0: all that the process may use; more are cut to it (Executor)
  std::size_t batch = 1;  // pictures that pass the networks together; memory grows with it
  Observer* observer = nullptr;
  MemoryResource* memory = nullptr;  // of activations and kernel scratch; null: the free store
};

// Where the time of a drawing went, in seconds, its callbacks left out.
struct StageTimes {
  double text_encoder = 0, unet = 0, decoder = 0, encoder = 0;  // encoder: of pictures that drawing begins with
};

// Drawing allocates no memory but the pictures and the tokenizer's own; it prints nothing and keeps no global state. Same
// request, same bytes, on any number of threads. One caller at a time; a second one, and one inside the callback of the first,
// gets an Error: make a session for each, of one model. In a process that was forked after the session was made it draws on one
// thread. What was moved from may only be destroyed or assigned to.
template <ModelConfig M, Format F = Format::fp32>
class Session {
  using Autoencoder = Vae<M.vae>;
  using Drawing = Sampling<M>;
  static constexpr std::size_t latents = Autoencoder::latent_floats, pixels = Autoencoder::picture_floats,
                               cells = Autoencoder::latent_height * Autoencoder::latent_width;

 public:
  static constexpr ModelConfig config = M;
  static constexpr Format format = F;
  static constexpr std::size_t width = M.vae.width, height = M.vae.height, context_length = M.text.length;
  static constexpr std::size_t most_chunks = Drawing::most_chunks;  // of context_length tokens, of a prompt
  static constexpr std::size_t latent_floats = latents;             // of a picture
  // Everything that drawing needs besides weights and kernel scratch, with so many pictures in a batch.
  static constexpr std::size_t activation_bytes_for(std::size_t batch) {
    const std::size_t n = 2 * batch, beside = aligned(batch * Drawing::Net::beside_floats),
                      preview = aligned(latents) + aligned(pixels) + Autoencoder::to_picture_floats(1);
    return 4 * (aligned(batch * latents) + 2 * aligned(latents) + aligned(cells) + aligned(pixels) + beside +
                std::max({Drawing::stack_floats(batch), Drawing::conditioning_floats(n) + Drawing::state_floats(batch) + preview,
                          (beside > 0 ? aligned(pixels) + aligned(latents) : 0) + Autoencoder::to_latents_floats(1)}));
  }
  static constexpr std::size_t activation_bytes = activation_bytes_for(1);

  explicit Session(Model<M, F> model, const SessionOptions& options = {})
      : model_(std::move(model)),
        batch_(options.batch),
        observer_(options.observer),
        executor_(options.threads, Precision::fp32, options.memory) {
    if (batch_ < 1 || batch_ > 1024) throw Error(detail::join({"batch: expected 1 to 1024, found ", batch_}));
    model_.weights();  // throws for one that was moved from
    activations_ = AlignedBuffer(activation_bytes_for(batch_) / 4, options.memory);
    initial_.resize(batch_);
    generators_.assign(batch_, TorchNormals(0));
    if constexpr (paints) nothing_.resize(latents);
  }

  // A prompt of more tokens than the text encoder reads takes further chunks, where the configuration has room for them; of it
  // and what it is compared with, the shorter one is filled up with chunks of the empty prompt. What is still too long is cut as
  // diffusers cuts it (what of it: read()); an empty prompt draws without a caption. Throws Error for one that is not UTF-8 or
  // over 65,536 bytes, for steps, guidance or clip_skip out of range, and for a session that was moved from. on_step(Progress) is
  // called after every step; if it returns false, generation stops and the picture is empty (width 0).
  template <class OnStep>
  Image generate(const Request& request, OnStep&& on_step) {
    return std::move(generate(std::span(&request, 1), on_step).front());
  }
  Image generate(const Request& request) {
    return generate(request, [](Progress) { return true; });
  }
  // One picture for each request, in batches of those that follow each other with the same sampler, steps, guidance, kind of
  // noise, number of chunks and clip_skip. All are checked before the first is begun. Once cancelled, those that are not done
  // stay empty.
  template <class OnStep>
  std::vector<Image> generate(std::span<const Request> requests, OnStep&& on_step) {
    std::vector<Image> images(requests.size());
    run(requests, on_step, [&](Context& c, std::size_t i, float* z, float* picture) {
      Image image(width, height);
      to_bytes(c, z, picture, image.rgb);
      images[i] = std::move(image);
    });
    return images;
  }
  std::vector<Image> generate(std::span<const Request> requests) {
    return generate(requests, [](Progress) { return true; });
  }

  // The same from token ids (prompt, then negative; context_length each) into rgb [height][width][3]; allocates nothing.
  // False: cancelled, rgb untouched.
  template <class OnStep>
  bool generate(std::span<const std::int32_t, 2 * context_length> ids, std::uint64_t seed, std::size_t steps, float guidance,
                std::span<std::uint8_t> rgb, OnStep&& on_step) {
    const SamplingOptions options{model_.sampling().sampler, steps, guidance};
    check({.ids = ids}, options, 1.0f);
    check_bytes("rgb", rgb.size());
    const auto use = exclusive_use();
    times_ = {};
    Stack stack(activations_);
    Context c = context(stack);
    float *z = stack.take(latents), *picture = stack.take(pixels);
    if (!draw(c, {.ids = ids.data()}, {.seeds = &seed}, options, {.beside = beside(c, {}, {})}, z, on_step)) return false;
    const Timed timed(times_.decoder);
    to_bytes(c, z, picture, rgb);
    note_peak(stack);
    return true;
  }

  // What a prompt is to the model: tokens, their weights, and what finds no room. Throws Error as generate does.
  EncodedPrompt read(const std::string& prompt, const PromptOptions& options = {}) const {
    return tokenizer().encode_prompt(prompt, context_length, {.most_chunks = most_chunks, .weights = options.weights});
  }

  // A request's latents [height][width][channels], scaled as the UNet has them: what decode() makes a picture of. Empty:
  // cancelled.
  template <class OnStep>
  std::vector<float> generate_latents(const Request& request, OnStep&& on_step) {
    std::vector<float> result;
    run(std::span(&request, 1), on_step, [&](Context&, std::size_t, const float* z, float*) { result.assign(z, z + latents); });
    return result;
  }
  std::vector<float> generate_latents(const Request& request) {
    return generate_latents(request, [](Progress) { return true; });
  }
  // Throws Error for another number of latents, and for numbers that overflow.
  Image decode(std::span<const float> z) {
    check_latents(z.size());
    const auto use = exclusive_use();
    times_ = {};
    Stack stack(activations_);
    Context c = context(stack);
    Image image(width, height);
    const Timed timed(times_.decoder);
    decode(c, z, image.rgb);
    note_peak(stack);
    return image;
  }
  // Latents of a picture; of an autoencoder that gives a distribution, its mean. Throws Error for one that is not width x height.
  std::vector<float> encode(const Image& picture) {
    check_size("picture", picture);
    const auto use = exclusive_use();
    times_ = {};
    Stack stack(activations_);
    Context c = context(stack);
    std::vector<float> z(latents);
    encode(c, picture.rgb, z.data());
    note_peak(stack);
    return z;
  }
  // Inside the callback of this session, from what it was called with: what picture k of the batch looks like so far.
  Image preview(const Progress& progress, std::size_t k = 0) {
    if (running_ == nullptr || progress.estimate.size() != progress.pictures * latents || k >= progress.pictures)
      throw Error("preview: expected a call inside the callback, with its progress and one of its pictures");
    Image image(width, height);
    decode(*running_, progress.estimate.subspan(k * latents, latents), image.rgb);
    return image;
  }

  // A picture of the prompt that resembles the one given, the less the greater the strength (in (0, 1]): noise is added as it is
  // at that share of the way to noise, and taken away again in that share of the steps, at least one (Meng et al., arXiv
  // 2108.01073). Throws Error for a picture that is not width x height, and as generate does. Cancelled: an empty picture.
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
    const auto noise = [&] { return NoiseSource{.seeds = &seed}; };
    return edit(PromptTokens{.ids = ids}, noise, {model_.sampling().sampler, steps, guidance}, picture, mask, strength, rgb,
                on_step);
  }

  const Model<M, F>& model() const { return model_; }
  const Tokenizer& tokenizer() const { return model_.tokenizer(); }
  const Metadata& metadata() const { return model_.metadata(); }
  const SamplingOptions& sampling() const { return model_.sampling(); }
  int threads() const { return executor_.threads(); }
  std::size_t batch() const { return batch_; }
  // Held by this object alone: activations, kernel scratch.
  std::size_t memory_bytes() const { return activations_.bytes() + executor_.scratch_bytes(); }
  // The most of activation_bytes that drawing has used so far.
  std::size_t peak_activation_bytes() const { return peak_activation_bytes_; }
  // Of the last call that drew, as far as it came.
  const StageTimes& times() const { return times_; }

 private:
  // The UNet of an inpainting model reads the mask and the latents of the masked picture beside its own (arXiv 2112.10752,
  // section 4.5).
  static constexpr bool paints = Drawing::Net::beside_floats > 0;
  static_assert(
      !paints || Drawing::Net::beside_channels == 1 + M.vae.latent_channels,
      "mobilediffusion: a session knows of a mask and a masked picture beside the latents; change `unet.input_channels`");

  // Held while the memory is in use. Throws Error where it is already.
  ExclusiveUse::Guard exclusive_use() {
    check_usable();
    return {use_, "session: expected one caller at a time, found two, or a call from inside its own callback; make one for each"};
  }
  // Adds its own life to a stage's time.
  class Timed {
   public:
    explicit Timed(double& seconds) : seconds_(seconds) {}
    ~Timed() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;

   private:
    double& seconds_;
    std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  };
  void check_usable() const {
    if (!executor_.usable()) throw Error("session: expected one that is in use, found one that was moved from");
  }
  Context context(Stack& stack) const {
    return {.executor = executor_, .stack = stack, .batch = 1, .packed = true, .format = F, .observer = observer_};
  }
  void note_peak(const Stack& stack) { peak_activation_bytes_ = std::max(peak_activation_bytes_, 4 * stack.peak()); }

  SamplingOptions options_of(const Request& request) const {
    const SamplingOptions& own = model_.sampling();
    return {request.sampler.value_or(own.sampler), request.steps.value_or(own.steps), request.guidance.value_or(own.guidance)};
  }
  PromptPair encode_prompts(const Request& request, float guidance) const {
    const EncodedPrompt prompt = read(request.prompt, request.words), negative = read_negative(request);
    const EncodedPrompt nothing = read("");
    return {prompt, Drawing::takes_two_passes(guidance) ? negative : nothing, nothing, request.words.clip_skip};
  }
  EncodedPrompt read_negative(const Request& request) const {
    try {
      return read(request.negative, request.words);
    } catch (const Error& e) {
      throw Error(std::string("negative ") + e.what());
    }
  }
  void check(const PromptTokens& prompts, const SamplingOptions& o, float strength) const {
    check_course(o.sampler, Drawing::course(o, strength));
    if (!(o.guidance >= 0.0f) || !std::isfinite(o.guidance))
      throw Error("guidance: expected a number of at least 0, found " + std::to_string(o.guidance));
    if (prompts.clip_skip > Drawing::most_clip_skip)
      throw Error(detail::join({"clip_skip: expected 0 to ", Drawing::most_clip_skip, ", found ", prompts.clip_skip}));
    for (std::int32_t id : prompts.ids)
      if (id < 0 || static_cast<std::size_t>(id) >= model_.tokens())
        throw Error(detail::join({"token id: expected 0 to ", model_.tokens() - 1, ", found ", std::to_string(id)}));
  }
  static void check_bytes(const char* what, std::size_t bytes) {
    if (bytes != pixels) throw Error(detail::join({what, ": expected ", pixels, " bytes, found ", bytes}));
  }
  static void check_latents(std::size_t n) {
    if (n != latents)
      throw Error(detail::join({"latents: expected ", latents, " numbers (", Autoencoder::latent_height, " x ",
                                Autoencoder::latent_width, " x ", M.vae.latent_channels, "), found ", n}));
  }
  static void check_size(const char* what, const Image& image) {
    if (image.width != width || image.height != height)
      throw Error(detail::join({what, ": expected ", width, " x ", height, " pixels, found ", image.width, " x ", image.height}));
    check_bytes(what, image.rgb.size());
  }

  // The requests, a batch after the other. finish(c, i, z, picture): the latents of request i are in z; picture is room for one.
  template <class OnStep, class Finish>
  void run(std::span<const Request> requests, OnStep& on_step, Finish&& finish) {
    check_usable();
    std::vector<PromptPair> prompts;
    std::vector<SamplingOptions> options;
    for (const Request& r : requests) {
      options.push_back(options_of(r));
      prompts.push_back(encode_prompts(r, options.back().guidance));
      check(prompts.back().tokens(), options.back(), 1.0f);
      if (!r.latents.empty()) check_latents(r.latents.size());
    }
    const auto use = exclusive_use();
    times_ = {};
    PromptPair batch;
    std::vector<std::uint64_t> seeds(batch_);
    for (std::size_t first = 0, n = 0; first < requests.size(); first += n) {
      n = 1;
      while (n < batch_ && first + n < requests.size() && options[first + n] == options[first] &&
             requests[first + n].noise == requests[first].noise && prompts[first + n].passes_with(prompts[first]))
        ++n;
      batch.gather(std::span(prompts).subspan(first, n));
      for (std::size_t i = 0; i < n; ++i) seeds[i] = requests[first + i].seed;
      Stack stack(activations_);
      Context c = context(stack);
      c.batch = n;
      float *z = stack.take(n * latents), *picture = stack.take(pixels);
      const auto report = [&](Progress p) {
        p.first = first;
        return detail::goes_on(on_step, p);
      };
      const SamplingSource source{.beside = beside(c, {}, {})};
      if (!draw(c, batch.tokens().captions(), noise_of(requests.subspan(first, n), seeds.data()), options[first], source, z,
                report))
        return;
      c.batch = 1;
      const Timed timed(times_.decoder);
      for (std::size_t i = 0; i < n; ++i) finish(c, first + i, z + i * latents, picture);
      note_peak(stack);
    }
  }
  NoiseSource noise_of(std::span<const Request> requests, const std::uint64_t* seeds) {
    NoiseSource noise{.seeds = seeds};
    for (std::size_t i = 0; i < requests.size(); ++i)
      initial_[i] = requests[i].latents.empty() ? nullptr : requests[i].latents.data();
    noise.initial = std::span(initial_).first(requests.size());
    if (requests[0].noise == NoiseKind::torch) {
      for (std::size_t i = 0; i < requests.size(); ++i) generators_[i] = TorchNormals(requests[i].seed);
      noise.torch = std::span(generators_).first(requests.size());
    }
    return noise;
  }

  // within: c.batch pictures. z receives their latents.
  template <class OnStep>
  bool draw(Context& c, const Captions& prompts, const NoiseSource& noise, const SamplingOptions& o, const SamplingSource& source,
            float* z, OnStep&& on_step) {
    Scope scope(c.stack);
    Context captions = c, alone = c;
    if (Drawing::takes_two_passes(o.guidance)) captions.batch *= 2;
    alone.batch = 1;
    const auto& weights = model_.weights();
    const Conditioning conditioning = [&] {
      const Timed timed(times_.text_encoder);
      if constexpr (!Drawing::two_texts) return Drawing::encode(captions, weights.text_encoder, prompts);
      else
        return Drawing::encode(captions, weights.text_encoder, weights.text_encoder_2, prompts,
                               model_.zeros_for_empty_negative() ? c.batch : captions.batch);
    }();
    running_ = &alone;
    struct Reset {
      Context*& running;
      ~Reset() { running = nullptr; }
    } const reset{running_};
    double in_callbacks = 0;
    const auto report = [&](Progress p) {
      const Timed timed(in_callbacks);
      return detail::goes_on(on_step, p);
    };
    const Timed timed(times_.unet);
    const bool done = Drawing::sample(c, weights.unet, conditioning, model_.schedule(), noise, o, source, z, report);
    times_.unet -= in_callbacks;
    return done;
  }

  // What the UNet of an inpainting model reads beside the latents, for c.batch pictures: the mask, 1 where it paints, as
  // diffusers shrinks it, and the latents of the picture with grey under it. No mask: it paints everything. Else null.
  const float* beside(Context& c, std::span<const std::uint8_t> picture, std::span<const std::uint8_t> mask,
                      TorchNormals* torch = nullptr) {
    if constexpr (!paints) return nullptr;
    constexpr std::size_t channels = M.vae.latent_channels, factor = height / Autoencoder::latent_height;
    float* const result = c.stack.take(c.batch * Drawing::Net::beside_floats);
    const auto fill = [&](const float* masked) {
      for (std::size_t i = 0; i < c.batch * cells; ++i) {
        const std::size_t y = i % cells / Autoencoder::latent_width * factor, x = i % Autoencoder::latent_width * factor;
        result[i * (1 + channels)] = mask.empty() || opacity(mask, y * width + x) >= 0.5f ? 1.0f : 0.0f;
        std::copy_n(masked + i % cells * channels, channels, result + i * (1 + channels) + 1);
      }
    };
    const auto encode_masked = [&](float* z) {
      Scope scope(c.stack);
      Context alone = c;
      alone.batch = 1;
      float* image = alone.stack.take(pixels);
      for (std::size_t i = 0; i < pixels; ++i)
        image[i] = mask.empty() || opacity(mask, i / 3) >= 0.5f ? 0.0f : static_cast<float>(picture[i]) / 127.5f - 1.0f;
      to_latents(alone, image, z, mask.empty() ? nullptr : torch);
    };
    if (mask.empty()) {
      if (!knows_nothing_) encode_masked(nothing_.data());
      knows_nothing_ = true;
      fill(nothing_.data());
    } else {
      Scope scope(c.stack);
      float* z = c.stack.take(latents);
      encode_masked(z);
      fill(z);
    }
    return result;
  }

  Image edit(const Image& picture, std::span<const std::uint8_t> mask, const Request& request, float strength, auto&& on_step) {
    SamplingOptions o = options_of(request);
    const PromptPair prompts = encode_prompts(request, o.guidance);
    if (!mask.empty() && !request.steps) o.steps = std::max(o.steps, inpaint_steps);
    if (!request.latents.empty()) check_latents(request.latents.size());
    Image image(width, height);
    const auto noise = [&] { return noise_of(std::span(&request, 1), &request.seed); };
    if (!edit(prompts.tokens(), noise, o, picture.rgb, mask, strength, image.rgb, on_step)) return {};
    return image;
  }
  // make_noise(): a NoiseSource, which may be kept in this object; asked for when nobody else uses it.
  template <class MakeNoise, class OnStep>
  bool edit(const PromptTokens& prompts, MakeNoise&& make_noise, const SamplingOptions& o, std::span<const std::uint8_t> picture,
            std::span<const std::uint8_t> mask, float strength, std::span<std::uint8_t> rgb, OnStep&& on_step) {
    check(prompts, o, strength);
    check_bytes("rgb", rgb.size());
    check_bytes("picture", picture.size());
    if (!mask.empty()) check_bytes("mask", mask.size());
    const auto use = exclusive_use();
    times_ = {};
    NoiseSource noise = make_noise();
    Stack stack(activations_);
    Context c = context(stack);
    float *z = stack.take(latents), *known = stack.take(latents), *painted = stack.take(cells), *image = stack.take(pixels);
    float* first = stack.take(latents);
    if (!mask.empty()) shrink(mask, painted);
    // In diffusers' order: the picture's latents, unless the model needs none, the first noise, and the masked picture's latents.
    TorchNormals* const torch = noise.torch.empty() ? nullptr : noise.torch.data();
    const bool from_noise_alone = paints && !mask.empty() && strength == 1.0f;
    encode(c, picture, known, image, from_noise_alone ? nullptr : torch);
    const float* const initial = first;
    if (torch != nullptr && (noise.initial.empty() || noise.initial[0] == nullptr)) {
      draw_normals(*torch, first);
      noise.initial = {&initial, 1};
    }
    SamplingSource source{known, strength, mask.empty() ? nullptr : painted, beside(c, picture, mask, torch)};
    // Those of a masked picture are drawn there for every model, though only inpainting models read them.
    if (torch != nullptr && Autoencoder::gives_distribution && !paints && !mask.empty()) draw_normals(*torch, z);
    if (paints && !mask.empty()) source.painted = nullptr;  // it sees itself what to keep
    if (from_noise_alone) source.pictures = nullptr;
    if (!draw(c, prompts.captions(), noise, o, source, z, on_step)) return false;
    const Timed timed(times_.decoder);
    to_picture(c, z, image);
    for (std::size_t i = 0; i < rgb.size(); ++i) {
      const float share = mask.empty() ? 1.0f : opacity(mask, i / 3);
      const std::uint8_t drawn = to_byte(image[i]);
      rgb[i] =
          static_cast<std::uint8_t>(static_cast<float>(picture[i]) * (1.0f - share) + static_cast<float>(drawn) * share + 0.5f);
    }
    note_peak(stack);
    return true;
  }

  void encode(Context& c, std::span<const std::uint8_t> picture, float* z, float* image, TorchNormals* torch = nullptr) {
    for (std::size_t i = 0; i < pixels; ++i) image[i] = static_cast<float>(picture[i]) / 127.5f - 1.0f;
    to_latents(c, image, z, torch);
  }
  // torch: draws them from their distribution, as diffusers does; null: their mean.
  void to_latents(Context& c, const float* image, float* z, TorchNormals* torch) {
    const Timed timed(times_.encoder);
    if constexpr (Autoencoder::gives_distribution) {
      if (torch != nullptr) draw_normals(*torch, z);
      Autoencoder::to_latents(c, model_.weights().vae, image, z, torch == nullptr ? nullptr : z);
    } else {
      Autoencoder::to_latents(c, model_.weights().vae, image, z);
    }
  }
  static void draw_normals(TorchNormals& torch, float* into) { torch.normals(into, M.vae.latent_channels, cells); }
  void encode(Context& c, std::span<const std::uint8_t> picture, float* z) {
    Scope scope(c.stack);
    encode(c, picture, z, c.stack.take(pixels));
  }
  void decode(Context& c, std::span<const float> latents_in, std::span<std::uint8_t> rgb) const {
    Scope scope(c.stack);
    float *z = c.stack.take(latents), *picture = c.stack.take(pixels);
    std::copy(latents_in.begin(), latents_in.end(), z);
    to_bytes(c, z, picture, rgb);
  }
  void to_bytes(Context& c, float* z, float* picture, std::span<std::uint8_t> rgb) const {
    to_picture(c, z, picture);
    for (std::size_t i = 0; i < pixels; ++i) rgb[i] = to_byte(picture[i]);
  }
  // Uses z up. Throws Error where numbers have overflowed: not a black picture instead.
  void to_picture(Context& c, float* z, float* picture) const {
    check_numbers(z, latents);
    Autoencoder::to_picture(c, model_.weights().vae, z, picture);
    check_numbers(picture, pixels);
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

  ExclusiveUse use_;
  Model<M, F> model_;
  std::size_t batch_;
  Observer* observer_;
  Executor executor_;
  AlignedBuffer activations_;
  std::vector<const float*> initial_;
  std::vector<TorchNormals> generators_;
  std::vector<float> nothing_;  // an inpainting model's latents of a grey picture, once they were needed
  bool knows_nothing_ = false;
  Context* running_ = nullptr;  // while a callback may be called
  std::size_t peak_activation_bytes_ = 0;
  StageTimes times_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "core/end.hpp"
