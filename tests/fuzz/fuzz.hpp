// SPDX-License-Identifier: Apache-2.0
// What the harnesses share. A reader of foreign bytes may accept them or throw mobilediffusion::Error: any other exception ends
// the process, and so do a sanitizer's complaint, a leak, and, when fuzzing, more than a second of processor time.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>
#include <system_error>

#include "mobilediffusion/core/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fuzz {

// Whether the last input was accepted: the driver wants it of every stored input whose name begins with "valid".
inline bool accepted = false;

template <class F>
int read(F&& f) {
  accepted = false;
  const std::clock_t start = std::clock();
  try {
    f();
    accepted = true;
  } catch (const mobilediffusion::Error& e) {
#ifdef MOBILEDIFFUSION_FUZZ_VERBOSE
    std::fprintf(stderr, "Error: %s\n", e.what());
#endif
    static_cast<void>(e);
  }
#ifdef MOBILEDIFFUSION_FUZZ
  if (const std::clock_t took = std::clock() - start; took > CLOCKS_PER_SEC) {
    std::fprintf(stderr, "fuzz: expected at most 1 s of processor time, found %.2f s\n",
                 static_cast<double>(took) / CLOCKS_PER_SEC);
    std::abort();
  }
#endif
  static_cast<void>(start);
  return 0;
}

// Says what is wrong with a result, and ends the process.
inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: expected %s\n", what);
  std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Cuts the input's front off, up to the first `end`, which is dropped; everything where there is none.
inline std::string_view cut(std::string_view& input, char end) {
  const std::size_t at = std::min(input.find(end), input.size());
  const std::string_view front = input.substr(0, at);
  input.remove_prefix(std::min(at + 1, input.size()));
  return front;
}

// A prompt; one that begins with '*' is what follows it again and again, up to 64 KiB: what takes time that grows faster than the
// text must not need a long input to be seen.
inline std::string prompt_of(std::string_view text) {
  if (!text.starts_with('*') || text.size() < 2) return std::string(text);
  text.remove_prefix(1);
  std::string out;
  while (out.size() + text.size() <= 65536) out += text;
  return out;
}

// A folder of this process's own, gone at its end.
class Folder {
 public:
  explicit Folder(std::string_view name) {
    path_ = std::filesystem::temp_directory_path() / ("mobilediffusion-fuzz-" + std::string(name) + "-XXXXXX");
    std::string text = path_.string();
    expect(::mkdtemp(text.data()) != nullptr, "a folder for temporary files");
    path_ = text;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  // Without the flush to the disk of write_file: these files are short-lived.
  std::filesystem::path write(std::string_view name, std::string_view bytes) const {
    const std::filesystem::path path = path_ / name;
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A safetensors file. An input that begins with '{' is a header, a zero byte and the data: the length in front, which no blind
// change would get right, is put there, and the data is filled up with zeros to the largest number after "data_offsets", so that
// an input need not hold it. Any other input is the file itself.
inline std::string safetensors_file(std::string_view header, std::string_view data) {
  constexpr std::size_t most = std::size_t{1} << 20;
  constexpr std::string_view key = "\"data_offsets\":[";
  std::size_t size = 0;
  for (std::size_t at = header.find(key); at != header.npos; at = header.find(key, at)) {
    at += key.size();
    const std::size_t comma = std::min(header.find(',', at), header.size()),
                      number = std::min(header.find_first_not_of(", ", comma), header.size());
    std::size_t end = 0;
    std::from_chars(header.data() + number, header.data() + header.size(), end);
    size = std::max(size, std::min(end, most));
  }
  std::string file(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(std::uint64_t{header.size()} >> (8 * i) & 255);
  file += header;
  file += data;
  if (data.size() < size) file.append(size - data.size(), '\0');
  return file;
}
inline std::string safetensors_file(std::string_view input) {
  if (!input.starts_with('{')) return std::string(input);
  const std::string_view header = cut(input, '\0');
  return safetensors_file(header, input);
}

}  // namespace fuzz
