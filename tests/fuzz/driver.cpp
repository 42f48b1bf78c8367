// SPDX-License-Identifier: Apache-2.0
// Runs a harness over stored inputs, without libFuzzer: fuzz_corpus HARNESS FOLDER. An input whose name begins with "valid" must
// be accepted, so that the stored inputs do not go stale unseen.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz.hpp"

// CMake makes a unit of all harnesses and this, with MOBILEDIFFUSION_HARNESSES(X): X(name) for each.

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: fuzz_corpus HARNESS FOLDER\n");
    return 2;
  }
  int (*harness)(const std::uint8_t*, std::size_t) = nullptr;
#define PICK(name) \
  if (std::strcmp(argv[1], #name) == 0) harness = fuzz_##name;
  MOBILEDIFFUSION_HARNESSES(PICK)
  if (harness == nullptr) {
    std::fprintf(stderr, "fuzz_corpus: no harness %s\n", argv[1]);
    return 2;
  }
  harness(nullptr, 0);
  std::size_t inputs = 0;
  int status = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argv[2])) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const std::string name = entry.path().filename().string();
    std::fprintf(stderr, "%s\n", name.c_str());  // the last line names the input that ended the process
    const std::vector<std::uint8_t> exactly(bytes.begin(), bytes.end());
    fuzz::accepted = false;
    harness(exactly.data(), exactly.size());
    if (name.starts_with("valid") && !fuzz::accepted) {
      std::fprintf(stderr, "fuzz_corpus: %s: expected to be accepted\n", name.c_str());
      status = 1;
    }
    ++inputs;
  }
  std::fprintf(stderr, "%zu inputs\n", inputs);
  return inputs == 0 ? 1 : status;
}
