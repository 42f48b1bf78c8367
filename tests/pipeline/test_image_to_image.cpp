// SPDX-License-Identifier: Apache-2.0
// Pictures from pictures at toy size: what strength and mask mean, what is kept, and what is refused; and that a model's file
// says how it samples.
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "../io/temporary_folder.hpp"
#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/pipeline.hpp"
#include "model_files.hpp"

namespace test_image_to_image_cpp {

using namespace mobilediffusion;
using namespace model_files;

inline std::atomic<std::size_t> allocations{0};  // counted by the allocator of test_pipeline.cpp

namespace {

using Model = ImageToImage<presets::tiny>;
using Net = Unet<presets::tiny.unet>;
using Drawing = Sampling<presets::tiny>;
constexpr std::size_t latents = Drawing::latents, channels = presets::tiny.unet.latent_channels, cells = latents / channels;

struct ModelFolder : TemporaryFolder {
  explicit ModelFolder(std::optional<SamplingOptions> sampling = {}) {
    const RandomModel<presets::tiny> random;
    Metadata metadata;
    if (sampling) put_sampling(metadata, *sampling);
    write_model<presets::tiny>(model(), random.weights, small_tokenizer(), Dtype::f32, metadata);
  }
  std::filesystem::path model() const { return *this / "tiny.safetensors"; }
};

const Request cat{.prompt = "a blue cat", .seed = 7, .steps = 4, .guidance = 2.0f};
constexpr auto go_on = [](Progress) { return true; };
const std::array<Sampler, 2> kinds{Ddim{}, Renoise{}};

Image pattern(int kind = 0) {
  Image image(Model::width, Model::height);
  for (std::size_t i = 0; i < image.rgb.size(); ++i)
    image.rgb[i] = static_cast<std::uint8_t>(kind == 0 ? 40 + i * 7 % 160 : 220 - i * 3 % 180);
  return image;
}
// White from this row on.
Image lower_half(std::size_t first_row = Model::height / 2) {
  Image mask(Model::width, Model::height);
  std::fill(mask.rgb.begin() + static_cast<std::ptrdiff_t>(first_row * Model::width * 3), mask.rgb.end(), std::uint8_t{255});
  return mask;
}

std::array<std::int32_t, 2 * Model::context_length> ids_of(const Model& model, const char* prompt) {
  std::array<std::int32_t, 2 * Model::context_length> ids{};
  const auto words = model.tokenizer().encode(prompt, Model::context_length);
  const auto nothing = model.tokenizer().encode_unconditional(Model::context_length);
  std::copy(nothing.begin(), nothing.end(), std::copy(words.begin(), words.end(), ids.begin()));
  return ids;
}

// The sampler alone: its latents for these pictures [2][latents], and how many steps it took.
struct Sampled {
  std::vector<float> z = std::vector<float>(2 * latents);
  std::size_t steps = 0;
};
Sampled sample(const Sampler& kind, const SamplingSource& source) {
  static const RandomModel<presets::tiny> model;
  static const AlignedBuffer memory(Drawing::stack_floats(2));
  const Executor ex(1);
  Stack stack(memory);
  const Context c{.executor = ex, .stack = stack, .batch = 2, .packed = false};
  std::vector<std::int32_t> ids(4 * presets::tiny.text.length, 9);
  const std::array<std::uint64_t, 2> seeds{1, 2};
  Sampled s;
  Drawing::run(c, model.weights.text_encoder, model.weights.unet, ids.data(), seeds.data(), {kind, 4, 2.0f}, source, s.z.data(),
               [&](Progress p) {
                 CHECK(p.step == ++s.steps);
                 return true;
               });
  return s;
}
std::vector<float> two_pictures(std::uint64_t seed = 1) {
  std::vector<float> x(2 * latents);
  Random(seed, 99).normals(x);
  return x;
}
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2.0);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

}  // namespace

TEST_CASE("strength says how far sampling goes from the picture, and how many steps it takes", "[image_to_image]") {
  const std::vector<float> x = two_pictures();
  for (const Sampler& kind : kinds) {
    CAPTURE(name_of(kind));
    double before = 0;
    for (const float strength : {0.005f, 0.05f, 0.3f, 0.6f, 1.0f}) {
      const Sampled s = sample(kind, {.pictures = x.data(), .strength = strength});
      CHECK(s.steps == std::max<std::size_t>(1, static_cast<std::size_t>(std::lround(4 * strength))));
      const double d = distance(s.z, x);
      CHECK(d > before);
      if (strength == 0.005f) CHECK(d < 0.1);
      before = d;
    }
    CHECK(before > 0.7);
    // Cosine: at strength 1 the noise is all there is.
    CHECK(sample(kind, {.pictures = x.data()}).z == sample(kind, {}).z);
    CHECK(sample(kind, {.pictures = x.data(), .strength = 0.6f}).z != sample(kind, {.strength = 0.6f}).z);
  }
}

TEST_CASE("what is not painted is the picture exactly, and what is painted sees it", "[image_to_image]") {
  std::vector<float> x = two_pictures(), painted(2 * cells);
  for (std::size_t i = 0; i < cells / 2; ++i) painted[i] = 1.0f;                          // of the first: the upper half
  for (std::size_t i = 0; i < cells; ++i) painted[cells + i] = i % 2 == 0 ? 1.0f : 0.0f;  // of the second: every other place
  const std::vector<float> all(2 * cells, 1.0f), none(2 * cells, 0.0f);
  for (const Sampler& kind : kinds)
    for (const float strength : {0.5f, 1.0f}) {
      CAPTURE(name_of(kind), strength);
      const auto run = [&](const std::vector<float>& mask) {
        return sample(kind, {.pictures = x.data(), .strength = strength, .painted = mask.data()}).z;
      };
      CHECK(run(none) == x);
      CHECK(run(all) == sample(kind, {.pictures = x.data(), .strength = strength}).z);
      const std::vector<float> z = run(painted);
      std::size_t same = 0, kept = 0;
      for (std::size_t i = 0; i < z.size(); ++i) {
        if (painted[i / channels] == 0.0f) same += z[i] == x[i], ++kept;
        else CHECK(z[i] != x[i]);
      }
      CHECK(kept == latents);
      CHECK(same == kept);
      // Another picture around it: another painting.
      const std::vector<float> old = x;
      for (std::size_t i = 0; i < x.size(); ++i)
        if (painted[i / channels] == 0.0f) x[i] = -x[i];
      const std::vector<float> other = run(painted);
      double change = 0;
      for (std::size_t i = 0; i < z.size(); ++i)
        if (painted[i / channels] != 0.0f)
          change = std::max(change, std::fabs(static_cast<double>(z[i]) - static_cast<double>(other[i])));
      CHECK(change > 0.01);
      x = old;
    }
}

TEST_CASE("image to image gives the same bytes on any number of threads, and at full strength forgets the picture",
          "[image_to_image]") {
  for (const Sampler& kind : kinds) {
    const ModelFolder folder(SamplingOptions{kind, 3, 2.0f});
    Model one(folder.model(), 1), two(folder.model(), 2);
    const Image image = one.image_to_image(pattern(), cat);
    CHECK(image.width == Model::width);
    CHECK(image.height == Model::height);
    CHECK(two.image_to_image(pattern(), cat) == image);
    CHECK(one.image_to_image(pattern(), cat, 0.6f) == image);
    CHECK(one.image_to_image(pattern(), cat, 0.3f) != image);
    CHECK(one.image_to_image(pattern(1), cat) != image);
    Request other = cat;
    other.prompt = "a red apple";
    CHECK(one.image_to_image(pattern(), other) != image);
    CHECK(one.image_to_image(pattern(), cat, 1.0f) == one.generate(cat));

    const Image painted = one.inpaint(pattern(), lower_half(), cat);
    CHECK(two.inpaint(pattern(), lower_half(), cat) == painted);
    CHECK(one.inpaint(pattern(), lower_half(0), cat) == one.generate(cat));
  }
}

TEST_CASE("pictures from pictures in narrow formats are close to those in fp32", "[image_to_image]") {
  const ModelFolder folder;
  Model exact(folder.model(), 1);
  const Image changed = exact.image_to_image(pattern(), cat), painted = exact.inpaint(pattern(), lower_half(), cat);
  const auto check = [&]<Format F>(std::integral_constant<Format, F>, float least) {
    ImageToImage<presets::tiny, F> one(folder.model(), 1), two(folder.model(), 2);
    CHECK(psnr(one.image_to_image(pattern(), cat), changed) > least);
    CHECK(psnr(one.inpaint(pattern(), lower_half(), cat), painted) > least);
    CHECK(one.image_to_image(pattern(), cat) == two.image_to_image(pattern(), cat));
    CHECK(one.inpaint(pattern(), lower_half(), cat) == two.inpaint(pattern(), lower_half(), cat));
  };
  check(std::integral_constant<Format, Format::bf16>{}, 20.0f);
  check(std::integral_constant<Format, Format::int8>{}, 20.0f);
}

TEST_CASE("inpainting keeps what is black in the mask byte for byte, and mixes where it is grey", "[image_to_image]") {
  const ModelFolder folder;
  Model model(folder.model(), 1);
  const Image picture = pattern();
  Image mask = lower_half(5);  // not on a border of latents
  const Image white = model.inpaint(picture, mask, cat);
  const std::size_t first = 5 * Model::width * 3;
  std::size_t painted = 0;
  for (std::size_t i = 0; i < white.rgb.size(); ++i) {
    if (i < first) CHECK(white.rgb[i] == picture.rgb[i]);
    else painted += white.rgb[i] != picture.rgb[i];
  }
  CHECK(painted > (white.rgb.size() - first) / 2);

  // One grey pixel among white ones: the same latents, another share of the drawing.
  for (std::size_t k = 0; k < 3; ++k) mask.at(3, 8, k) = 51;
  const Image grey = model.inpaint(picture, mask, cat);
  for (std::size_t k = 0; k < 3; ++k)
    CHECK(std::abs(static_cast<double>(grey.at(3, 8, k)) - (0.8 * picture.at(3, 8, k) + 0.2 * white.at(3, 8, k))) <= 0.51);
  Image same = grey;
  for (std::size_t k = 0; k < 3; ++k) same.at(3, 8, k) = white.at(3, 8, k);
  CHECK(same == white);
}

TEST_CASE("changing pictures from token ids allocates nothing and takes the planned memory", "[image_to_image]") {
  const ModelFolder folder;
  static_assert(std::is_same_v<Model, TextToImage<presets::tiny>>);
  for (const int threads : {1, 2}) {
    Model model(folder.model(), threads);
    const auto ids = ids_of(model, "a blue cat");
    const Image picture = pattern(), mask = lower_half();
    const Image expected = model.inpaint(picture, mask, cat);
    std::vector<std::uint8_t> rgb = picture.rgb;  // in place
    const std::size_t before = allocations;
    const bool done = model.edit(ids, 7, 4, 2.0f, rgb, mask.rgb, 1.0f, rgb, go_on);
    const std::size_t after = allocations;
    CHECK(done);
    CHECK(after == before);
    CHECK(rgb == expected.rgb);
    // Pictures in between need the most.
    CHECK(model.peak_activation_bytes() < Model::activation_bytes);
    CHECK(model.edit(ids, 7, 4, 2.0f, picture.rgb, mask.rgb, 1.0f, rgb, [&](Progress p) { model.preview(p); }));
    CHECK(rgb == expected.rgb);
    CHECK(model.peak_activation_bytes() == Model::activation_bytes);
    CHECK(model.memory_bytes() == Model::weight_bytes + Model::activation_bytes +
                                      static_cast<std::size_t>(model.threads()) * 4 * Executor::scratch_floats);
  }
}

TEST_CASE("pictures, masks and strengths that cannot be used are refused, and cancelling leaves nothing", "[image_to_image]") {
  const ModelFolder folder;
  Model model(folder.model(), 1);
  const Image picture = pattern(), mask = lower_half();
  const Image image = model.image_to_image(picture, cat);
  const auto refused = [&](auto&& call, const char* says) {
    expect(error_of(call), says);
    CHECK(model.image_to_image(picture, cat) == image);
  };
  Image cut = picture;
  cut.rgb.pop_back();
  refused([&] { model.image_to_image(Image(15, 32), cat); }, "picture: expected 16 x 32 pixels, found 15 x 32");
  refused([&] { model.image_to_image(Image(), cat); }, "picture: expected 16 x 32 pixels, found 0 x 0");
  refused([&] { model.image_to_image(cut, cat); }, "picture: expected 1536 bytes, found 1535");
  refused([&] { model.inpaint(picture, Image(32, 16, 255), cat); }, "mask: expected 16 x 32 pixels, found 32 x 16");
  refused([&] { model.inpaint(cut, mask, cat); }, "picture: expected 1536 bytes, found 1535");
  refused([&] { model.inpaint(picture, cut, cat); }, "mask: expected 1536 bytes, found 1535");
  refused([&] { model.inpaint(picture, Image(16, 32), cat); }, "mask: expected white where to paint, found black alone");
  for (const float strength : {0.0f, -0.5f, 1.01f, std::numeric_limits<float>::quiet_NaN()}) {
    refused([&] { model.image_to_image(picture, cat, strength); }, "strength: expected a number above 0 and at most 1, found ");
    refused([&] { model.inpaint(picture, mask, cat, strength); }, "strength: expected a number above 0 and at most 1, found ");
  }
  refused([&] { model.image_to_image(picture, {.prompt = "\xff"}); }, "prompt: not UTF-8");
  refused([&] { model.inpaint(picture, mask, {.prompt = "a cat", .steps = 0}); }, "steps: expected 1 to 1000, found 0");

  CHECK(model.image_to_image(picture, cat, 1.0f, [](Progress p) { return p.step < 2; }) == Image());
  std::vector<std::uint8_t> rgb(picture.rgb.size(), 77);
  const auto ids = ids_of(model, "a cat");
  CHECK_FALSE(model.edit(ids, 1, 3, 1.0f, picture.rgb, mask.rgb, 1.0f, rgb, [](Progress) { return false; }));
  CHECK(rgb == std::vector<std::uint8_t>(rgb.size(), 77));
  refused([&] { model.edit(ids, 1, 3, 1.0f, std::span(picture.rgb).first(9), {}, 1.0f, rgb, go_on); },
          "picture: expected 1536 bytes, found 9");
  refused([&] { model.edit(ids, 1, 3, 1.0f, picture.rgb, std::span(mask.rgb).first(9), 1.0f, rgb, go_on); },
          "mask: expected 1536 bytes, found 9");
}

TEST_CASE("numbers that overflow are an error, not a black picture", "[image_to_image]") {
  const auto check = [](Model& model, const Request& request, std::string_view words) {
    INFO("guidance " << *request.guidance << ", steps " << *request.steps);
    for (const std::string& error :
         {error_of([&] { model.generate(request); }), error_of([&] { model.image_to_image(pattern(), request); }),
          error_of([&] { model.inpaint(pattern(), lower_half(), request); })}) {
      expect(error, words);
      CHECK(error.empty() == words.empty());
    }
  };
  // In the last two one projection alone is too large, as an adapter with a scale of 1e20 makes it; norms follow it.
  for (const Sampler& kind : kinds)
    for (const auto& [factor, where] : {std::pair(1.0f, ""), {1e4f, ""}, {1e20f, "to_v"}, {1e20f, "to_out"}}) {
      INFO("weights x " << factor << " " << where);
      const TemporaryFolder folder;
      const RandomModel<presets::tiny> random;
      for (const auto& leaf : reflect::leafs(random.weights))
        for (std::size_t i = 0; i < leaf.type->storage && leaf.path.find(where) != std::string::npos; ++i)
          leaf.data()[i] *= factor;
      Metadata metadata;
      put_sampling(metadata, {kind, 4, 2.0f});
      write_model<presets::tiny>(folder / "m.safetensors", random.weights, small_tokenizer(), Dtype::f32, metadata);
      Model model(folder / "m.safetensors", 1);
      for (const std::size_t steps : {1, 4})
        for (const float guidance : {2.0f, 1e20f, 3e38f}) {
          const bool fits = factor == 1.0f && guidance == 2.0f;
          check(model, {.prompt = "a blue cat", .steps = steps, .guidance = guidance},
                fits ? "" : "numbers overflowed while drawing");
        }
    }
}

TEST_CASE("a model samples as its file says where a request does not", "[image_to_image]") {
  const ModelFolder plain, ddim(SamplingOptions{Ddim{}, 2, 1.0f}),
      renoise(SamplingOptions{Renoise{}, 2, 1.0f});
  Model by_configuration(plain.model(), 1), by_ddim(ddim.model(), 1), by_renoise(renoise.model(), 1);
  CHECK(by_configuration.sampling().steps == presets::tiny.sampler.steps);
  CHECK(by_renoise.sampling().sampler == Sampler(Renoise{}));
  const Request request{.prompt = "a red apple", .seed = 7},
      said{.prompt = "a red apple", .seed = 7, .steps = 2, .guidance = 1.0f};
  CHECK(by_ddim.generate(request) == by_configuration.generate(said));
  CHECK(by_ddim.generate(request) != by_configuration.generate(request));
  CHECK(by_renoise.generate(request) != by_ddim.generate(request));
  std::size_t steps = 0;
  by_renoise.generate(request, [&](Progress p) { return steps = p.steps, true; });
  CHECK(steps == 2);
  // From noise alone one step would not see what is kept.
  Model changing(renoise.model(), 1);
  const auto count = [&](Progress p) { return steps = p.steps, true; };
  changing.image_to_image(pattern(), request, 1.0f, count);
  CHECK(steps == 2);
  changing.inpaint(pattern(), lower_half(), request, 1.0f, count);
  CHECK(steps == Model::inpaint_steps);
  changing.inpaint(pattern(), lower_half(), said, 1.0f, count);
  CHECK(steps == 2);

  const RandomModel<presets::tiny> random;
  const auto path = plain / "wrong.safetensors";
  write_model<presets::tiny>(path, random.weights, small_tokenizer(), Dtype::f32, {{"sampler.steps", "0"}});
  const std::string message = error_of([&] { Model model(path, 1); });
  expect(message, "wrong.safetensors");
  expect(message, "sampler.steps: expected a whole number of 1 to 1000, found \"0\"");
}

}  // namespace test_image_to_image_cpp
