// SPDX-License-Identifier: Apache-2.0
// A whole model of toy size, from its file to its pictures: what is promised of them, and what is refused.
#include <array>
#include <cmath>
#include <limits>
#include <thread>

#include "../io/temporary_folder.hpp"
#include "allocation_counter.hpp"
#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/pipeline.hpp"
#include "model_files.hpp"

namespace test_pipeline_cpp {

using namespace mobilediffusion;
using namespace model_files;

namespace {

using Tiny = TextToImage<presets::tiny>;

struct ModelFolder : TemporaryFolder {
  explicit ModelFolder(std::uint64_t seed = 1) { RandomModel<presets::tiny>(seed).write(model()); }
  std::filesystem::path model() const { return *this / "tiny.safetensors"; }
};

const Request apple{.prompt = "a red apple", .seed = 7};

std::size_t largest_difference(const Image& a, const Image& b) {
  REQUIRE(a.rgb.size() == b.rgb.size());
  std::size_t most = 0;
  for (std::size_t i = 0; i < a.rgb.size(); ++i)
    most = std::max(most, static_cast<std::size_t>(std::abs(static_cast<int>(a.rgb[i]) - static_cast<int>(b.rgb[i]))));
  return most;
}

std::array<std::int32_t, 2 * Tiny::context_length> ids_of(const Tiny& model, const char* prompt) {
  std::array<std::int32_t, 2 * Tiny::context_length> ids{};
  const auto words = model.tokenizer().encode(prompt, Tiny::context_length);
  const auto nothing = model.tokenizer().encode_unconditional(Tiny::context_length);
  std::copy(nothing.begin(), nothing.end(), std::copy(words.begin(), words.end(), ids.begin()));
  return ids;
}

constexpr auto go_on = [](Progress) { return true; };

}  // namespace

TEST_CASE("a request gives the same bytes on any number of threads, and others for another seed, prompt or negative") {
  const ModelFolder folder;
  Tiny one(folder.model(), 1), two(folder.model(), 2);
  const Image image = one.generate(apple);
  CHECK(image.width == Tiny::width);
  CHECK(image.height == Tiny::height);
  CHECK(*std::max_element(image.rgb.begin(), image.rgb.end()) > *std::min_element(image.rgb.begin(), image.rgb.end()) + 50);
  CHECK(one.generate(apple) == image);
  CHECK(two.generate(apple) == image);
  for (const Request& other : {Request{.prompt = "a red apple", .seed = 8}, Request{.prompt = "a blue cat", .seed = 7},
                               Request{.prompt = "a red apple", .negative = "a blue cat", .seed = 7}}) {
    const Image different = one.generate(other);
    CHECK(different != image);
    CHECK(two.generate(other) == different);
  }
  CHECK(one.generate(apple) == image);
}

TEST_CASE("steps and guidance default to the configuration's, and matter") {
  const ModelFolder folder;
  Tiny model(folder.model(), 1);
  const auto with = [&](std::optional<std::size_t> steps, std::optional<float> guidance, const char* negative = "") {
    return model.generate({.prompt = "a red apple", .negative = negative, .seed = 7, .steps = steps, .guidance = guidance});
  };
  const Image image = model.generate(apple);
  CHECK(with(presets::tiny.sampler.steps, std::nullopt) == image);
  CHECK(with(std::nullopt, static_cast<float>(presets::tiny.sampler.guidance_percent) / 100.0f) == image);
  CHECK(with(1, std::nullopt) != image);
  CHECK(with(1000, std::nullopt) != image);
  CHECK(with(std::nullopt, 10.0f) != image);

  // Guidance of at most 1 is the condition alone: the negative prompt is not even read, and equals guidance away from itself.
  const Image conditional = with(std::nullopt, 1.0f);
  CHECK(conditional != image);
  CHECK(with(std::nullopt, 1.0f, "a blue cat") == conditional);
  CHECK(largest_difference(with(std::nullopt, 5.0f, "a red apple"), conditional) <= 1);
  for (const float none : {0.0f, 0.5f}) CHECK(with(std::nullopt, none, "a blue cat") == conditional);
  CHECK(with(std::nullopt, 3.0f, "a blue cat") != conditional);
}

TEST_CASE("every step is reported, and the callback cancels") {
  const ModelFolder folder;
  Tiny model(folder.model(), 1);
  const Image image = model.generate(apple);
  std::vector<std::size_t> seen;
  const auto note = [&](Progress p) {
    CHECK(p.steps == 5);
    seen.push_back(p.step);
    return true;
  };
  Request five = apple;
  five.steps = 5;
  CHECK(model.generate(five, note).width == Tiny::width);
  CHECK(seen == std::vector<std::size_t>{1, 2, 3, 4, 5});

  std::size_t calls = 0;
  const Image cancelled = model.generate(five, [&](Progress p) { return ++calls, p.step < 2; });
  CHECK(calls == 2);
  CHECK(cancelled == Image());
  CHECK_THROWS_AS(model.generate(five, [](Progress) -> bool { throw Error("stop"); }), Error);
  std::vector<std::uint8_t> untouched(Tiny::width * Tiny::height * 3, 77);
  CHECK_FALSE(model.generate(ids_of(model, "a cat"), 1, 3, 2.0f, untouched, [](Progress) { return false; }));
  CHECK(untouched == std::vector<std::uint8_t>(untouched.size(), 77));
  CHECK(model.generate(apple) == image);
}

TEST_CASE("generating from token ids allocates nothing and takes the planned memory") {
  const ModelFolder folder;
  for (const int threads : {1, 2}) {
    Tiny model(folder.model(), threads);
    const Image expected = model.generate(apple);
    const auto ids = ids_of(model, "a red apple");
    std::vector<std::uint8_t> rgb(expected.rgb.size());
    const auto run = [&](float guidance) { return model.generate(ids, 7, 3, guidance, rgb, go_on); };
    const std::size_t before = allocations;
    const bool done = run(1.0f) && run(3.0f);
    const std::size_t after = allocations;
    CHECK(done);
    CHECK(after == before);
    CHECK(before > 0);
    CHECK(rgb == expected.rgb);
    CHECK(model.peak_activation_bytes() <= Tiny::activation_bytes);  // all of it: test_image_to_image.cpp
    CHECK(model.memory_bytes() ==
          Tiny::weight_bytes + Tiny::activation_bytes + static_cast<std::size_t>(model.threads()) * 4 * Executor::scratch_floats);
  }
  Tiny unguided(folder.model(), 1);
  unguided.generate({.prompt = "a cat", .guidance = 1.0f});
  CHECK(unguided.peak_activation_bytes() > 0);
  CHECK(unguided.peak_activation_bytes() <= Tiny::activation_bytes);
}

TEST_CASE("two models at once, each in a thread, draw what they draw alone") {
  const ModelFolder first_folder(1), second_folder(2);
  Tiny first(first_folder.model(), 2), second(second_folder.model(), 2);
  std::array<std::vector<Image>, 2> alone, together;
  const auto draw = [](Tiny& model, std::vector<Image>& images) {
    for (std::uint64_t seed = 0; seed < 8; ++seed) images.push_back(model.generate({.prompt = "a blue cat", .seed = seed}));
  };
  draw(first, alone[0]);
  draw(second, alone[1]);
  CHECK(alone[0] != alone[1]);
  std::thread a([&] { draw(first, together[0]); }), b([&] { draw(second, together[1]); });
  a.join();
  b.join();
  CHECK(together == alone);
}

TEST_CASE("a model's file holds its weights as F32, F16 or BF16, and its metadata") {
  const ModelFolder folder;
  Tiny model(folder.model(), 1);
  CHECK(model.metadata().at("training.note") == "random");
  CHECK(model.metadata().count(detail::tokenizer_key) == 0);
  const Image image = model.generate(apple);
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16}) {
    RandomModel<presets::tiny>().write(folder / "half.safetensors", dtype);
    CHECK(psnr(Tiny(folder / "half.safetensors", 1).generate(apple), image) > (dtype == Dtype::f16 ? 40.0f : 20.0f));
  }
}

TEST_CASE("files that are not the model are refused by a message that names file, tensor and expectation") {
  const ModelFolder folder;
  const auto path = folder / "wrong.safetensors";
  const auto refusal = [](const std::filesystem::path& p) { return error_of([&] { Tiny model(p, 1); }); };
  const auto check = [&](const std::string& kind, const std::vector<std::string>& says) {
    INFO(kind);
    const std::string message = refusal(path);
    expect(message, "file ");
    expect(message, "wrong.safetensors");
    CHECK(message.find('\n') == std::string::npos);
    for (const std::string& part : says) expect(message, part);
  };
  const RandomModel<presets::tiny> good;
  write_wrong(good, {"none", [](Tensors&, Metadata&) {}, {}}, path);
  CHECK(refusal(path) == "");
  for (const WrongModel& wrong : wrong_models()) {
    write_wrong(good, wrong, path);
    check(wrong.kind, wrong.says);
  }
  const std::string bytes = read_file(folder.model());
  for (const WrongBytes& wrong : wrong_bytes()) {
    std::string edited = bytes;
    wrong.edit(edited);
    REQUIRE(edited != bytes);
    write_file(path, edited);
    check(wrong.kind, wrong.says);
  }
  write_wrong(good, {"", [](Tensors&, Metadata& m) { m[detail::tokenizer_key] = base64_encode(small_tokenizer(45)); }, {}}, path);
  check("tokenizer of too many pieces", {detail::tokenizer_key, "expected at most 40 pieces, found more"});
  std::filesystem::remove(path);
  check("missing", {"cannot open"});
  std::filesystem::create_directory(path);
  check("folder", {"not a regular file"});
}

TEST_CASE("prompts that are too long are cut, and empty ones mean none") {
  const ModelFolder folder;
  Tiny model(folder.model(), 2);
  const auto draw = [&](const std::string& prompt, const std::string& negative = "") {
    return model.generate({.prompt = prompt, .negative = negative, .seed = 3, .steps = 2, .guidance = 2.0f});
  };
  std::string many;
  for (int i = 0; i < 20; ++i) many += "cat ";
  CHECK(model.tokenizer().encode_prompt(many, Tiny::context_length).tokens > Tiny::context_length);
  CHECK(draw(many) == draw(many + many));
  CHECK(draw(many) != draw("cat"));
  CHECK(draw("a cat", many) == draw("a cat", many + many));
  CHECK(draw("") == draw(" \t\n"));
  CHECK(draw("a cat", " ") == draw("a cat"));
}

TEST_CASE("a model that was moved from says so") {
  const ModelFolder folder;
  Tiny model(folder.model(), 1), other = std::move(model);
  CHECK(other.generate(apple).width == Tiny::width);
  expect(error_of([&] { model.generate(apple); }), "moved from");  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("requests that cannot be met are refused, and the model goes on working") {
  const ModelFolder folder;
  Tiny model(folder.model(), 2);
  const Image image = model.generate(apple);
  const auto check = [&](const Request& request, const char* thing, const char* expectation) {
    const std::string message = error_of([&] { model.generate(request); });
    expect(message, thing);
    expect(message, expectation);
    CHECK(message.rfind(thing, 0) == 0);
    CHECK(message.find('\n') == std::string::npos);
    CHECK(model.generate(apple) == image);
  };
  check({.prompt = std::string(70000, 'a')}, "prompt", "at most 65536 are accepted");
  check({.prompt = "a \xFF cat"}, "prompt", "not UTF-8 at byte 2");
  check({.prompt = "a cat", .negative = "\xC0\x80"}, "negative prompt", "not UTF-8 at byte 0");
  check({.prompt = "a cat", .steps = 0}, "steps", "expected 1 to 1000, found 0");
  check({.prompt = "a cat", .steps = 1001}, "steps", "expected 1 to 1000, found 1001");
  for (const float guidance : {-0.5f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    check({.prompt = "a cat", .guidance = guidance}, "guidance", "expected a number of at least 0, found ");

  auto ids = ids_of(model, "a cat");
  std::vector<std::uint8_t> rgb(image.rgb.size());
  expect(error_of([&] { model.generate(ids, 1, 3, 1.0f, std::span(rgb).first(5), go_on); }), "rgb: expected 1536 bytes, found 5");
  for (const std::int32_t id : {-1, 40}) {
    ids[3] = id;
    expect(error_of([&] { model.generate(ids, 1, 3, 1.0f, rgb, go_on); }), "token id: expected 0 to 39, found ");
  }
  CHECK(model.generate(apple) == image);
}

}  // namespace test_pipeline_cpp
