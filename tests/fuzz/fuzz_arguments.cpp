// SPDX-License-Identifier: Apache-2.0
// A command line of the example programs: one argument a line.
#include <vector>

#include "common/arguments.hpp"
#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view input = fuzz::text_of(data, size);
  std::vector<std::string> texts{"program"};
  while (!input.empty()) texts.emplace_back(fuzz::cut(input, '\n'));
  std::vector<const char*> arguments;
  for (const std::string& text : texts) arguments.push_back(text.c_str());
  return fuzz::read([&] {
    CLI::App app{"", "program"};
    std::vector<std::string> prompts;
    std::string output;
    std::size_t count = 1;
    bool quiet = false;
    app.set_version_flag("--version", "1");
    app.add_option("prompt", prompts);
    app.add_option("-o,--output", output);
    app.add_flag("-q,--quiet", quiet);
    std::uint64_t steps = 1;
    examples::add_whole(app, "--steps", 1, 1000, "", [&](auto n) { steps = n; });
    examples::add_count(app, "--count", count, "");
    examples::add_format(app, [](auto) {});
    examples::add_number(app, "--guidance", "",
                         [](float x) { fuzz::expect(x >= 0.0f && std::isfinite(x), "a number that was checked"); });
    examples::add_strength(app, "", [](float x) { fuzz::expect(x > 0.0f && x <= 1.0f, "a strength that was checked"); });
    if (const auto status = examples::parse(app, static_cast<int>(arguments.size()), arguments.data())) {
      fuzz::expect(*status == 0 || *status == 2, "status 0 or 2");
      throw mobilediffusion::Error("refused");
    }
    fuzz::expect(steps >= 1 && steps <= 1000 && count >= 1 && count <= 1'000'000, "numbers in their ranges");
  });
}
