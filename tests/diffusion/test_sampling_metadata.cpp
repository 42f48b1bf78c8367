// SPDX-License-Identifier: Apache-2.0
// How a model's file says in its metadata how to sample it.
#include <mobilediffusion/model_file.hpp>
#include <string>

#include "catch.hpp"
#include "io/temporary_folder.hpp"

using namespace mobilediffusion;

namespace {
bool same(const SamplingOptions& a, const SamplingOptions& b) {
  return a == b;
}
const SamplingOptions otherwise{Ddim{}, 20, 2.5f};
}  // namespace

TEST_CASE("what metadata says about sampling comes back, the rest stays", "[diffusion]") {
  CHECK(same(sampling_of({}, otherwise, "f"), otherwise));
  for (const SamplingOptions& o :
       {SamplingOptions{Renoise{}, 1, 1.0f}, SamplingOptions{Ddim{}, 1000, 0.1f}, otherwise}) {
    Metadata metadata{{"training.seed", "1"}};
    put_sampling(metadata, o);
    CHECK(metadata.size() == 4);
    CHECK(same(sampling_of(metadata, {Renoise{}, 7, 7.0f}, "f"), o));
  }
  CHECK(same(sampling_of({{"sampler.kind", "renoise"}}, otherwise, "f"), {Renoise{}, 20, 2.5f}));
  CHECK(same(sampling_of({{"sampler.steps", "4"}}, otherwise, "f"), {Ddim{}, 4, 2.5f}));
  CHECK(same(sampling_of({{"sampler.guidance", "1"}}, otherwise, "f"), {Ddim{}, 20, 1.0f}));
}

TEST_CASE("metadata that no request may ask for is refused", "[diffusion]") {
  const auto refusal = [](const char* key, const std::string& value) {
    return error_of([&] { sampling_of({{key, value}}, otherwise, "folder/model"); });
  };
  for (const char* value : {"", "DDIM", "eu", "ddim "}) {
    const std::string message = refusal("sampler.kind", value);
    expect(message, "file \"folder/model\": metadata sampler.kind: expected one of ddim, euler, ");
    expect(message, ", found \"");
    expect(message, value);
  }
  for (const char* value : {"", "0", "1001", "-1", "4.0", " 4", "4 ", "99999999999999999999"})
    expect(refusal("sampler.steps", value), "metadata sampler.steps: expected a whole number of 1 to 1000, found \"");
  for (const char* value : {"", "-0.5", "nan", "inf", "1,5", "1.5x", "1e999"})
    expect(refusal("sampler.guidance", value), "metadata sampler.guidance: expected a number of at least 0, found \"");
}
