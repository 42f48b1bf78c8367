// SPDX-License-Identifier: Apache-2.0
// A folder of its own for each test that needs files, gone afterwards; and the text of the Error that a call throws.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "catch.hpp"
#include "mobilediffusion/core/error.hpp"

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "mobilediffusion-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw mobilediffusion::Error("test: cannot create a temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  std::size_t files() const {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) ++n;
    return n;
  }

 private:
  std::filesystem::path path_;
};

// Empty where f throws nothing.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const mobilediffusion::Error& e) {
    return e.what();
  }
  return {};
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// A function and not a macro, so that hundreds of checks compile in seconds.
inline void expect(const std::string& text, std::string_view part) {
  INFO(text);
  INFO("expected in it: " << part);
  CHECK(contains(text, part));
}
