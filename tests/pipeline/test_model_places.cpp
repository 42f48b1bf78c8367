// SPDX-License-Identifier: Apache-2.0
// Where a model's bytes and memory come from: a file, a part of one, bytes of the program; the free store or a user's memory.
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../io/temporary_folder.hpp"
#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/session.hpp"
#include "model_files.hpp"

namespace test_model_places_cpp {

using namespace mobilediffusion;

namespace {

using TinyModel = Model<presets::tiny>;
using TinySession = Session<presets::tiny>;

struct ModelFolder : TemporaryFolder {
  ModelFolder() { model_files::RandomModel<presets::tiny>().write(file()); }
  std::filesystem::path file() const { return *this / "tiny.safetensors"; }
  std::string bytes() const {
    std::ifstream in(file(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }
Image draw(const TinyModel& model, const SessionOptions& options = {}) {
  return TinySession(model, options).generate({.prompt = "a red apple", .seed = 7});
}
std::string refusal(auto&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// Counts what is out, and that all comes back as it was asked for.
struct CountingMemory : MemoryResource {
  void* allocate(std::size_t bytes, std::size_t alignment) override {
    const std::lock_guard lock(mutex);
    if (limit < bytes) return nullptr;
    limit -= bytes;
    void* const memory = ::operator new (bytes, std::align_val_t{alignment});
    std::memset(memory, 0x7f, bytes);  // zeros must not be expected of it
    held[memory] = {bytes, alignment};
    total += bytes;
    return memory;
  }
  void release(void* memory, std::size_t bytes, std::size_t alignment) noexcept override {
    const std::lock_guard lock(mutex);
    wrong = wrong || held[memory] != std::pair(bytes, alignment);
    held.erase(memory);
    ::operator delete (memory, std::align_val_t{alignment});
  }
  std::mutex mutex;
  std::map<void*, std::pair<std::size_t, std::size_t>> held;
  std::size_t total = 0, limit = std::size_t{1} << 40;
  bool wrong = false;
};

}  // namespace

TEST_CASE("a model in memory is the one of the file, and needs the bytes no more", "[model]") {
  const ModelFolder folder;
  const Image expected = draw(TinyModel(folder.file()));
  std::string bytes = folder.bytes();
  const TinyModel model(bytes_of(bytes));
  std::fill(bytes.begin(), bytes.end(), '\0');
  CHECK(draw(model) == expected);
  CHECK(model.metadata() == TinyModel(folder.file()).metadata());

  bytes = folder.bytes();
  const std::string half = bytes.substr(0, bytes.size() / 2);
  CHECK(refusal([&] { TinyModel(bytes_of(half), "the demo"); }).starts_with("file \"the demo\": tensor "));
  CHECK(refusal([&] { TinyModel(std::span<const std::byte>()); }) == "file \"in memory\": expected at least 8 bytes, found 0");
  using Other = Model<presets::sd_toy>;
  CHECK(refusal([&] { Other{bytes_of(bytes)}; }).starts_with("file \"in memory\": tensor "));
}

TEST_CASE("a model may be a part of a file", "[model]") {
  const ModelFolder folder;
  const Image expected = draw(TinyModel(folder.file()));
  const std::string bytes = folder.bytes();
  const auto package = folder / "package.zip";
  std::ofstream(package, std::ios::binary) << "before it" << bytes << "and behind";
  CHECK(draw(TinyModel(package, FilePart{9, bytes.size()})) == expected);
  std::ofstream(package, std::ios::binary) << "before it" << bytes;
  CHECK(draw(TinyModel(package, FilePart{9})) == expected);

  for (const FilePart& beyond : {FilePart{9, bytes.size() + 1}, FilePart{bytes.size() + 10, 1}, FilePart{9, ~std::uint64_t{0}}})
    CHECK(refusal([&] { TinyModel(package, beyond); }).ends_with("found " + std::to_string(bytes.size() + 9) + " in all"));
  // What follows it does not belong to it, nor what is before.
  CHECK_FALSE(refusal([&] { TinyModel(package, FilePart{9, bytes.size() - 1}); }).empty());
  CHECK_FALSE(refusal([&] { TinyModel(package, FilePart{8, bytes.size()}); }).empty());
  CHECK_FALSE(refusal([&] { TinyModel{package}; }).empty());
}

TEST_CASE("weights, activations and scratch come from a user's memory, and go back", "[model][session]") {
  const ModelFolder folder;
  const Image expected = draw(TinyModel(folder.file()));
  CountingMemory weights, activations;
  {
    const TinyModel model(ModelPaths{folder.file()}, {}, {}, &weights);
    CHECK(weights.held.size() == 1);
    CHECK(weights.total >= TinyModel::weight_bytes);
    std::optional<TinySession> session(std::in_place, model, SessionOptions{.threads = 2, .memory = &activations});
    CHECK(activations.held.size() == 2);
    CHECK(activations.total >= session->memory_bytes());
    CHECK(session->generate({.prompt = "a red apple", .seed = 7}) == expected);
    CHECK(activations.held.size() == 2);  // drawing takes none
    session.reset();
    CHECK(activations.held.empty());
    CHECK(weights.held.size() == 1);

    activations.limit = 1000;
    CHECK_THROWS_AS(draw(model, {.memory = &activations}), std::bad_alloc);
    CHECK(activations.held.empty());
  }
  CHECK(weights.held.empty());
  weights.limit = 1000;
  CHECK_THROWS_AS(TinyModel(ModelPaths{folder.file()}, {}, {}, &weights), std::bad_alloc);
  CHECK_FALSE(weights.wrong);
  CHECK_FALSE(activations.wrong);
}

TEST_CASE("a session tells where its time went", "[session]") {
  const ModelFolder folder;
  TinySession session(TinyModel(folder.file()));
  CHECK(session.times().unet == 0);
  const Request request{.prompt = "a red apple", .steps = 2};
  const Image picture = session.generate(request);
  const StageTimes times = session.times();
  CHECK((times.text_encoder > 0 && times.unet > 0 && times.decoder > 0 && times.encoder == 0));
  session.image_to_image(picture, request, 0.5f);
  CHECK(session.times().encoder > 0);
  // Callbacks are left out, previews in them too.
  session.generate(request, [&](Progress p) {
    session.preview(p);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  });
  CHECK((session.times().unet < 0.3 && session.times().decoder < 0.3));
  session.generate(request, [](Progress) { return false; });
  CHECK((session.times().unet > 0 && session.times().decoder == 0));
}

}  // namespace test_model_places_cpp
