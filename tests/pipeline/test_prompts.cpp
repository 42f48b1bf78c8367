// SPDX-License-Identifier: Apache-2.0
// What a request may say of its prompts: words that weigh more, more words than the text encoder reads at once, skipped layers.
#include <string>
#include <vector>

#include "../io/temporary_folder.hpp"
#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/session.hpp"
#include "model_files.hpp"

namespace test_prompts_cpp {

using namespace mobilediffusion;

namespace {

constexpr ModelConfig longer = presets::with_long_prompts(presets::tiny, 3);
using Plain = Session<presets::tiny>;
using Long = Session<longer>;

struct File : TemporaryFolder {
  File() { model_files::RandomModel<presets::tiny>().write(path()); }
  std::filesystem::path path() const { return *this / "tiny.safetensors"; }
};

Request request(const char* prompt, const char* negative = "", PromptOptions words = {}) {
  return {.prompt = prompt, .negative = negative, .seed = 7, .words = words};
}

}  // namespace

TEST_CASE("a model for long prompts draws short ones as ever", "[prompt]") {
  const File file;  // is the same for both
  Plain plain(Model<presets::tiny>(file.path()), {.threads = 1});
  Long session(Model<longer>(file.path()), {.threads = 1, .batch = 2});
  for (const char* prompt : {"", "a red apple"}) {
    const Image image = plain.generate(request(prompt, "a cat"));
    CHECK(session.generate(request(prompt, "a cat")) == image);
    CHECK(session.image_to_image(image, request(prompt)) == plain.image_to_image(image, request(prompt)));
    std::vector<std::int32_t> ids = plain.read(prompt).ids;
    CHECK(ids == session.read(prompt).ids);
    const auto negative = plain.read("a cat").ids;
    ids.insert(ids.end(), negative.begin(), negative.end());
    std::vector<std::uint8_t> rgb(image.rgb.size());
    CHECK(session.generate(std::span<const std::int32_t, 2 * Long::context_length>(ids), 7, session.sampling().steps,
                           session.sampling().guidance, rgb, [](Progress) {}));
    CHECK(rgb == image.rgb);
  }
  CHECK(configuration_text(longer) == configuration_text(presets::tiny));
}

TEST_CASE("long prompts are read to their end", "[prompt]") {
  const File file;
  const Model<longer> model(file.path());
  Plain plain(Model<presets::tiny>(file.path()), {.threads = 1});
  Long one(model, {.threads = 1}), two(model, {.threads = 2, .batch = 3});
  const char *text = "a red apple a blue cat", *other = "a red apple a blue apple",
             *endless = "a red apple a blue cat a red apple a blue cat a red apple a blue cat a red apple a blue cat";
  CHECK(one.read(text).cut.empty());
  CHECK(one.read(text).ids.size() > Long::context_length);
  CHECK_FALSE(plain.read(text).cut.empty());
  CHECK(one.read(endless).ids.size() == Long::most_chunks * Long::context_length);
  CHECK_FALSE(one.read(endless).cut.empty());
  const Image image = one.generate(request(text));
  CHECK(one.generate(request(other)) != image);
  CHECK(plain.generate(request(text)) != image);
  CHECK(one.generate(request("a", text)) != one.generate(request("a")));
  // A batch is of prompts that are equally long.
  const std::vector<Request> several{request(text), request("a red cat"), request("a", other), request(endless)};
  std::vector<Image> alone;
  for (const Request& r : several) alone.push_back(one.generate(r));
  std::vector<std::size_t> firsts;
  CHECK(two.generate(several, [&](Progress p) {
    if (p.step == 1) firsts.push_back(p.first);
  }) == alone);
  CHECK(firsts == std::vector<std::size_t>{0, 1, 2, 3});
  CHECK(two.generate(std::vector<Request>{several[2], several[0]}) == std::vector<Image>{alone[2], alone[0]});
  CHECK(two.peak_activation_bytes() <= Long::activation_bytes_for(3));
  // What is not drawn with does not make a prompt longer.
  Request unguided = request("a red apple", endless);
  unguided.guidance = 1.0f;
  Request nothing = unguided;
  nothing.negative = "";
  CHECK(one.generate(unguided) == one.generate(nothing));
}

TEST_CASE("words of a prompt may weigh more", "[prompt]") {
  const File file;
  const Model<longer> model(file.path());
  Long one(model, {.threads = 1}), batch(model, {.threads = 2, .batch = 4});
  const PromptOptions on{.weights = true};
  const Image plain = one.generate(request("a red cat"));
  CHECK(one.generate(request("a red cat", "", on)) == plain);
  CHECK(one.generate(request("(a red cat:1)", "", on)) == plain);
  CHECK(one.generate(request("(a red cat:1.5)")) != plain);  // brackets are words
  const Image strong = one.generate(request("a (red:1.5) cat", "", on)), weak = one.generate(request("a [red] cat", "", on)),
              negative = one.generate(request("a red cat", "(cat:2)", on));
  CHECK(strong != one.generate(request("a (red:1.0001) cat", "", on)));
  CHECK(strong != weak);
  CHECK(negative != one.generate(request("a red cat", "cat", on)));
  CHECK(one.image_to_image(plain, request("a (red:1.5) cat", "", on)) != one.image_to_image(plain, request("a red cat")));
  const std::vector<Request> several{request("a red cat"), request("a (red:1.5) cat", "", on), request("a [red] cat", "", on),
                                     request("a red cat", "(cat:2)", on)};
  CHECK(batch.generate(several) == std::vector<Image>{plain, strong, weak, negative});
  const Image two = one.generate(request("a red BREAK blue cat", "", on));
  CHECK(two != one.generate(request("a red blue cat", "", on)));
  std::size_t calls = 0;
  const std::vector<Request> wrong{request("a red cat"), request("a red cat", "(cat:2.2.2)", on)};
  expect(error_of([&] { one.generate(wrong, [&](Progress) { ++calls; }); }),
         "negative prompt: expected a number for a weight, found \"2.2.2\"");
  CHECK(calls == 0);
}

TEST_CASE("the text encoder's last layers may be skipped", "[prompt]") {
  const File file;
  const Model<presets::tiny> model(file.path());
  Plain one(model, {.threads = 1}), batch(model, {.threads = 2, .batch = 2});
  const Request plain = request("a red cat"), skips = request("a red cat", "", {.clip_skip = 1});
  const std::vector<Image> expected{one.generate(plain), one.generate(skips)};
  CHECK(expected[0] != expected[1]);
  CHECK(batch.generate(std::vector<Request>{plain, skips}) == expected);
  expect(error_of([&] { one.generate(request("a red cat", "", {.clip_skip = 2})); }), "clip_skip: expected 0 to 1, found 2");
}

}  // namespace test_prompts_cpp
