// SPDX-License-Identifier: Apache-2.0
// A model in the hands of several threads, of its own callback, of a forked process, and after it was moved from.
#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../io/temporary_folder.hpp"
#include "catch.hpp"
#include "forks.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/pipeline.hpp"
#include "model_files.hpp"

namespace test_simultaneous_cpp {

using namespace mobilediffusion;

namespace {

using Model = ImageToImage<presets::tiny>;

struct ModelFolder : TemporaryFolder {
  ModelFolder() { model_files::RandomModel<presets::tiny>(1).write(model()); }
  std::filesystem::path model() const { return *this / "tiny.safetensors"; }
};

const Request apple{.prompt = "a red apple", .seed = 7};

}  // namespace

TEST_CASE("one model in four threads: right pictures or errors", "[simultaneous]") {
  const ModelFolder folder;
  Model model(folder.model(), 2);
  const Image expected = model.generate(apple), edited = model.image_to_image(expected, apple);
  std::atomic<int> right{0}, wrong{0}, refused{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) try {
          const Image image = t % 2 == 0 ? model.generate(apple) : model.image_to_image(expected, apple);
          ++(image == (t % 2 == 0 ? expected : edited) ? right : wrong);
        } catch (const Error& e) {
          ++(std::string(e.what()).find("one caller at a time") != std::string::npos ? refused : wrong);
        }
    });
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
  CHECK(right > 0);
  CHECK(right + refused == 20);
  CHECK(model.generate(apple) == expected);
}

TEST_CASE("a model that draws inside its own callback says no, and the picture outside is right", "[simultaneous]") {
  const ModelFolder folder;
  Model model(folder.model(), 2);
  const Image expected = model.generate(apple);
  int refused = 0;
  const auto again = [&](Progress) {
    try {
      model.generate(apple);
    } catch (const Error& e) {
      CHECK(std::string(e.what()).find("one caller at a time") != std::string::npos);
      ++refused;
    }
    return true;
  };
  CHECK(model.generate(apple, again) == expected);
  CHECK(refused == static_cast<int>(presets::tiny.sampler.steps));
  CHECK_THROWS_AS(model.generate(apple, [&](Progress) { return model.generate(apple).width > 0; }),
                  Error);  // out of the callback
  CHECK_THROWS_AS(model.image_to_image(expected, apple, 0.5f, [&](Progress) { return model.generate(apple).width > 0; }), Error);
  CHECK(model.generate(apple) == expected);
}

TEST_CASE("a model can be moved; what was moved from says so", "[simultaneous]") {
  const ModelFolder folder;
  Model a(folder.model(), 2);
  const Image expected = a.generate(apple);
  Model b = std::move(a);
  CHECK(b.generate(apple) == expected);
  const auto moved_from = [](auto&& call) { return error_of(call).find("moved from") != std::string::npos; };
  CHECK(moved_from([&] { a.generate(apple); }));
  CHECK(moved_from([&] { a.image_to_image(expected, apple); }));
  const std::array<std::int32_t, 2 * Model::context_length> ids{};
  std::vector<std::uint8_t> rgb(expected.rgb.size());
  CHECK(moved_from([&] { a.generate(ids, 1, 1, 1.0f, rgb, [](Progress) { return true; }); }));
  a = std::move(b);
  CHECK(a.generate(apple) == expected);
}

#ifdef TESTS_CAN_FORK
TEST_CASE("a forked process draws with the model that it inherited, also amid a picture", "[simultaneous]") {
  const ModelFolder folder;
  Model model(folder.model(), 2);
  const Image expected = model.generate(apple);
  const auto draws = [&](auto&& draw) {
    const pid_t child = ::fork();
    if (child == 0) {
      int status = 1;
      try {
        status = draw() == expected ? 0 : 2;
      } catch (...) {
      }
      ::_exit(status);
    }
    int status = 0;
    return child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  };
  CHECK(draws([&] { return model.generate(apple); }));
  bool forked = false, in_child = false;
  const Image outside = model.generate(apple, [&](Progress) {
    if (forked) return true;
    forked = true;
    const pid_t child = ::fork();
    if (child == 0) return in_child = true;
    int status = 0;
    CHECK(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    return true;
  });
  if (in_child) ::_exit(outside == expected ? 0 : 1);
  CHECK(outside == expected);
}
#endif

}  // namespace test_simultaneous_cpp
