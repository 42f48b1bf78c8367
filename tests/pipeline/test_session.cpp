// SPDX-License-Identifier: Apache-2.0
// One model and its sessions: shared weights, batches, latents in and out, pictures in between, and what a request may choose.
#include <cmath>
#include <optional>
#include <thread>
#include <vector>

#include "../io/temporary_folder.hpp"
#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/session.hpp"
#include "model_files.hpp"

namespace test_session_cpp {

using namespace mobilediffusion;

namespace {

using TinyModel = Model<presets::tiny>;
using TinySession = Session<presets::tiny>;

struct ModelFolder : TemporaryFolder {
  explicit ModelFolder(std::uint64_t seed = 1) { model_files::RandomModel<presets::tiny>(seed).write(model()); }
  std::filesystem::path model() const { return *this / "tiny.safetensors"; }
};

std::vector<Request> several(std::size_t n) {
  std::vector<Request> requests;
  for (std::size_t i = 0; i < n; ++i) requests.push_back({.prompt = i % 2 == 0 ? "a red apple" : "a blue cat", .seed = 7 + i});
  return requests;
}
std::vector<Image> one_by_one(TinySession& session, const std::vector<Request>& requests) {
  std::vector<Image> images;
  for (const Request& r : requests) images.push_back(session.generate(r));
  return images;
}

}  // namespace

TEST_CASE("sessions share the weights of their model and outlive its name", "[session]") {
  const ModelFolder folder;
  std::optional<TinyModel> model(folder.model());
  TinySession a(*model, {.threads = 1}), b(*model, {.threads = 2});
  CHECK(&a.model().weights() == &b.model().weights());
  CHECK(model->memory_bytes() == TinyModel::weight_bytes);
  for (const TinySession* s : {&a, &b})
    CHECK(s->memory_bytes() ==
          TinySession::activation_bytes + static_cast<std::size_t>(s->threads()) * 4 * Executor::scratch_floats);
  model.reset();
  const auto requests = several(4);
  const std::vector<Image> expected = one_by_one(a, requests);
  CHECK(one_by_one(b, requests) == expected);
}

TEST_CASE("two threads draw at once from one model", "[session]") {
  const ModelFolder folder;
  const TinyModel model(folder.model());
  const auto requests = several(6);
  TinySession session(model, {.threads = 1});
  const std::vector<Image> expected = one_by_one(session, requests);
  std::vector<std::vector<Image>> drawn(2);
  std::vector<std::thread> threads;
  for (auto& images : drawn)
    threads.emplace_back([&] {
      TinySession own(model, {.threads = 1});
      images = one_by_one(own, requests);
    });
  for (std::thread& t : threads) t.join();
  for (const auto& images : drawn) CHECK(images == expected);
}

TEST_CASE("a batch gives the pictures that its requests give alone", "[session]") {
  const ModelFolder folder;
  const TinyModel model(folder.model());
  TinySession alone(model, {.threads = 1});
  auto requests = several(7);
  requests[4].steps = 2;  // another batch begins here, and one behind it
  requests[5].guidance = 1.0f;
  requests[6].sampler = Euler{};
  const std::vector<Image> expected = one_by_one(alone, requests);
  for (const std::size_t batch : {1, 2, 3, 7}) {
    CAPTURE(batch);
    for (const int threads : {1, 2}) {
      TinySession session(model, {.threads = threads, .batch = batch});
      std::vector<std::size_t> firsts;
      const std::vector<Image> images = session.generate(requests, [&](Progress p) {
        CHECK(p.latents.size() == p.pictures * TinySession::latent_floats);
        CHECK(p.estimate.size() == p.latents.size());
        if (p.step == 1) firsts.push_back(p.first);
      });
      CHECK(images == expected);
      if (batch == 3) CHECK(firsts == std::vector<std::size_t>{0, 3, 4, 5, 6});
      CHECK(session.memory_bytes() == TinySession::activation_bytes_for(batch) +
                                          static_cast<std::size_t>(session.threads()) * 4 * Executor::scratch_floats);
      CHECK(session.peak_activation_bytes() <= TinySession::activation_bytes_for(batch));
    }
  }
  TinySession session(model, {.batch = 2});
  std::size_t calls = 0;
  const auto cancelled = session.generate(requests, [&](Progress p) { return ++calls, p.first == 0; });
  CHECK(cancelled.size() == requests.size());
  for (std::size_t i = 0; i < cancelled.size(); ++i) CHECK(cancelled[i] == (i < 2 ? expected[i] : Image()));
  CHECK(calls == presets::tiny.sampler.steps + 1);
  CHECK(session.generate(std::span<const Request>()).empty());
  requests[6].prompt = "\xff";
  calls = 0;
  expect(error_of([&] { session.generate(requests, [&](Progress) { ++calls; }); }), "prompt: not UTF-8");
  CHECK(calls == 0);
}

TEST_CASE("latents go in and come out", "[session]") {
  const ModelFolder folder;
  TinySession session(TinyModel(folder.model()), {.threads = 1});
  Request request{.prompt = "a red apple", .seed = 7};
  const Image image = session.generate(request);
  const std::vector<float> z = session.generate_latents(request);
  CHECK(session.decode(z) == image);

  std::vector<float> last;
  session.generate(request, [&](Progress p) { last.assign(p.latents.begin(), p.latents.end()); });
  CHECK(last == z);

  // The seed's own noise, given.
  request.latents.resize(TinySession::latent_floats);
  Random(7, 0).normals(request.latents);
  request.seed = 8;
  CHECK(session.generate(request) == image);
  request.latents[0] += 1.0f;
  CHECK(session.generate(request) != image);
  request.latents.pop_back();
  expect(error_of([&] { session.generate(request); }), "latents: expected 96 numbers (8 x 4 x 3), found 95");
  expect(error_of([&] { session.decode(request.latents); }), "latents: expected 96 numbers (8 x 4 x 3), found 95");

  const std::vector<float> encoded = session.encode(image);
  CHECK(encoded.size() == TinySession::latent_floats);
  CHECK(session.encode(image) == encoded);
  expect(error_of([&] { session.encode(Image(3, 3)); }), "picture: expected 16 x 32 pixels, found 3 x 3");
  expect(error_of([&] { session.decode(std::vector<float>(TinySession::latent_floats, 1e30f)); }), "numbers overflowed");
}

TEST_CASE("pictures in between are of the run that they are asked in", "[session]") {
  const ModelFolder folder;
  TinySession session(TinyModel(folder.model()), {.threads = 1, .batch = 2});
  const auto requests = several(2);
  std::vector<Image> previews, images;
  images = session.generate(requests, [&](Progress p) {
    if (p.step == 1)
      for (std::size_t k = 0; k < p.pictures; ++k) previews.push_back(session.preview(p, k));
    if (p.step == p.steps)
      for (std::size_t k = 0; k < p.pictures; ++k) previews.push_back(session.preview(p, k));
    expect(error_of([&] { session.preview(p, p.pictures); }), "preview: expected a call inside the callback");
    expect(error_of([&] { session.preview({}); }), "preview: expected a call inside the callback");
  });
  CHECK(session.generate(requests) == images);
  REQUIRE(previews.size() == 4);
  CHECK(previews[2] == images[0]);  // behind the last step the estimate is the picture
  CHECK(previews[3] == images[1]);
  CHECK(previews[0] != images[0]);
  CHECK(session.peak_activation_bytes() <= TinySession::activation_bytes_for(2));
  expect(error_of([&] { session.preview({}); }), "preview: expected a call inside the callback");
}

TEST_CASE("a request may choose every sampler, and each draws something else", "[session]") {
  const ModelFolder folder;
  TinySession one(TinyModel(folder.model()), {.threads = 1}), two(one.model(), {.threads = 2});
  std::vector<std::vector<float>> drawn;
  for_each_sampler([&]<class S>() {
    CAPTURE(S::name);
    const Request request{.prompt = "a red apple", .seed = 7, .steps = 5, .sampler = S{}};
    const Image image = one.generate(request), changed = one.image_to_image(image, request, 0.6f);
    Image mask(TinySession::width, TinySession::height);
    std::fill_n(mask.rgb.begin(), mask.rgb.size() / 2, std::uint8_t{255});
    const Image painted = one.inpaint(changed, mask, request);
    CHECK(two.generate(request) == image);
    CHECK(two.image_to_image(image, request, 0.6f) == changed);
    CHECK(two.inpaint(changed, mask, request) == painted);
    CHECK(std::equal(painted.rgb.begin() + static_cast<std::ptrdiff_t>(mask.rgb.size() / 2), painted.rgb.end(),
                     changed.rgb.begin() + static_cast<std::ptrdiff_t>(mask.rgb.size() / 2)));
    const std::vector<float> z = one.generate_latents(request);
    CHECK(std::count(drawn.begin(), drawn.end(), z) == 0);
    CHECK(one.decode(z) == image);
    CHECK(changed != image);
    drawn.push_back(z);
  });
  CHECK(drawn.size() == std::variant_size_v<Sampler>);
  expect(error_of([&] { one.generate({.prompt = "a cat", .steps = 51, .sampler = Lcm{}}); }),
         "steps: expected 1 to 50 for sampler lcm");
}

TEST_CASE("noise may be PyTorch's", "[session]") {
  const ModelFolder folder;
  TinySession session(TinyModel(folder.model()), {.threads = 1, .batch = 2});
  Request request{.prompt = "a red apple", .seed = 7, .noise = NoiseKind::torch};
  const Image image = session.generate(request);
  CHECK(session.generate({.prompt = "a red apple", .seed = 7}) != image);
  CHECK(session.generate(request) == image);
  Request given{.prompt = "a red apple", .seed = 1};
  given.latents.resize(TinySession::latent_floats);
  TorchNormals(7).normals(given.latents.data(), presets::tiny.unet.latent_channels,
                          TinySession::latent_floats / presets::tiny.unet.latent_channels);
  CHECK(session.generate(given) == image);
  // One generator for each picture, which goes on from step to step.
  request.sampler = EulerAncestral{};
  Request other = request;
  other.seed = 8;
  const std::vector<Request> both{request, other};
  CHECK(session.generate(both) == std::vector<Image>{session.generate(request), session.generate(other)});
}

TEST_CASE("an inpainting model sees mask and picture beside its latents", "[session]") {
  static constexpr ModelConfig painting = [] {
    ModelConfig m = presets::tiny;
    m.unet.input_channels = 2 * m.unet.latent_channels + 1;
    return m;
  }();
  const TemporaryFolder folder;
  model_files::RandomModel<painting>().write(folder / "m.safetensors");
  using Painter = Session<painting>;
  const Model<painting> model(folder / "m.safetensors");
  Painter one(model, {.threads = 1, .batch = 2}), two(model, {.threads = 2});
  const Request request{.prompt = "a red apple", .seed = 7};
  const Image image = one.generate(request);
  CHECK(two.generate(request) == image);
  const std::vector<Request> both{request, request};
  CHECK(one.generate(both) == std::vector<Image>{image, image});
  CHECK(one.image_to_image(image, request) != image);

  Image picture(Painter::width, Painter::height), mask(Painter::width, Painter::height), white = mask;
  for (std::size_t i = 0; i < picture.rgb.size(); ++i) picture.rgb[i] = static_cast<std::uint8_t>(i * 7 % 256);
  const std::size_t half = mask.rgb.size() / 2;
  std::fill_n(mask.rgb.begin(), half, std::uint8_t{255});
  std::fill_n(white.rgb.begin(), 2 * half, std::uint8_t{255});
  const Image painted = one.inpaint(picture, mask, request);
  CHECK(two.inpaint(picture, mask, request) == painted);
  CHECK(std::equal(painted.rgb.begin() + static_cast<std::ptrdiff_t>(half), painted.rgb.end(),
                   picture.rgb.begin() + static_cast<std::ptrdiff_t>(half)));
  Image other = picture;  // what is under the mask is not seen, what is beside it is
  for (std::size_t i = 0; i < half; ++i) other.rgb[i] = static_cast<std::uint8_t>(255 - other.rgb[i]);
  CHECK(one.inpaint(other, mask, request) == painted);
  for (std::size_t i = half; i < 2 * half; ++i) other.rgb[i] = static_cast<std::uint8_t>(255 - other.rgb[i]);
  CHECK(one.inpaint(other, mask, request) != painted);
  Request four = request;
  four.steps = Painter::inpaint_steps;
  CHECK(one.inpaint(picture, white, request) == one.generate(four));
  CHECK(one.peak_activation_bytes() <= Painter::activation_bytes_for(2));
}

TEST_CASE("a model that embeds guidance takes one pass for it, and a tiny autoencoder draws from a picture", "[session]") {
  static constexpr ModelConfig distilled = [] {
    ModelConfig m = presets::tiny;
    m.unet.guidance_width = 8;
    VaeConfig vae = presets::taesd;
    vae.latent_channels = m.unet.latent_channels;
    vae.levels = 3;
    vae.encoder_channels = vae.decoder_channels = {16, 16, 16};
    return presets::with_vae(m, vae);
  }();
  const TemporaryFolder folder;
  model_files::RandomModel<distilled>().write(folder / "m.safetensors");
  Session<distilled> session(Model<distilled>(folder / "m.safetensors"), {.threads = 1});
  const auto draw = [&](float guidance, const char* negative = "") {
    return session.generate(
        {.prompt = "a red apple", .negative = negative, .seed = 7, .steps = 4, .guidance = guidance, .sampler = Lcm{}});
  };
  const Image image = draw(4.0f);
  CHECK(draw(5.0f) != image);
  CHECK(draw(4.0f, "a blue cat") == image);
  CHECK(draw(0.0f) == draw(1.0f));
  const Request request{.prompt = "a red apple", .seed = 7, .steps = 4, .sampler = Lcm{}};
  const Image from = session.image_to_image(draw(5.0f), request, 0.5f);
  CHECK(session.image_to_image(draw(5.0f), request, 0.5f) == from);
  CHECK(session.image_to_image(image, request, 0.5f) != from);
  CHECK(session.peak_activation_bytes() <= Session<distilled>::activation_bytes);
}

TEST_CASE("a caller that is refused changes nothing of the picture that is being drawn", "[session]") {
  const ModelFolder folder;
  TinySession session(TinyModel(folder.model()), {.threads = 1});
  // PyTorch's generator goes on from step to step, so whatever touches it shows.
  Request request{.prompt = "a red apple", .seed = 7, .steps = 4, .sampler = EulerAncestral{}, .noise = NoiseKind::torch};
  Request other = request;
  other.seed = 8;
  other.latents.assign(TinySession::latent_floats, 1.0f);
  const Image image = session.generate(request), changed = session.image_to_image(image, request);
  Image mask(TinySession::width, TinySession::height);
  std::fill_n(mask.rgb.begin(), mask.rgb.size() / 2, std::uint8_t{255});
  const Image painted = session.inpaint(image, mask, request);
  std::size_t refused = 0;
  const auto intrude = [&](Progress) {
    for (const std::string& error :
         {error_of([&] { session.generate(other); }), error_of([&] { session.image_to_image(image, other); }),
          error_of([&] { session.inpaint(image, mask, other); })})
      refused += error.find("one caller at a time") != std::string::npos ? 1 : 0;
  };
  CHECK(session.generate(request, intrude) == image);
  CHECK(session.image_to_image(image, request, 0.6f, intrude) == changed);
  CHECK(session.inpaint(image, mask, request, 1.0f, intrude) == painted);
  CHECK(refused == 3 * (4 + 2 + 4));
}

TEST_CASE("sessions that cannot be are refused", "[session]") {
  const ModelFolder folder;
  TinyModel model(folder.model());
  expect(error_of([&] { TinySession session(model, {.batch = 0}); }), "batch: expected 1 to 1024, found 0");
  TinyModel taken = std::move(model);
  expect(error_of([&] { TinySession session(model); }), "found one that was moved from");
  TinySession session(taken, {.threads = 1});
  TinySession moved = std::move(session);
  expect(error_of([&] { session.generate(Request{.prompt = "a cat"}); }), "found one that was moved from");
  CHECK(moved.generate(Request{.prompt = "a cat"}).width == TinySession::width);
}

}  // namespace test_session_cpp
