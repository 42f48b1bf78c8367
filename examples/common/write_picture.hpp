// SPDX-License-Identifier: Apache-2.0
// Where programs put a picture: a PNG file, a pipe, or standard output, which is written as "-".
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "mobilediffusion/core/error.hpp"
#include "mobilediffusion/io/image.hpp"
#include "mobilediffusion/io/message.hpp"

namespace examples {

inline bool is_standard_output(std::string_view path) {
  return path == "-" || path == "/dev/stdout" || path == "/dev/fd/1" || path == "/proc/self/fd/1";
}
// Standard output, or a pipe or device that exists: whatever its name, and nothing of it is replaced.
inline bool is_stream(const std::string& path) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  return is_standard_output(path) || std::filesystem::is_fifo(status) || std::filesystem::is_character_file(status);
}
// png, jpg and so on, in small letters.
inline std::string extension_of(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  if (!extension.empty()) extension.erase(0, 1);
  for (char& c : extension)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return extension;
}

// Throws where the terminal would be filled with the bytes of a picture.
inline void check_output(const std::string& path) {
  if (is_standard_output(path) && isatty(STDOUT_FILENO) != 0)
    throw mobilediffusion::Error("standard output: expected a pipe or a file for a picture, found a terminal");
}
inline void write_picture(const std::string& path, const mobilediffusion::Image& image,
                          std::span<const std::pair<std::string, std::string>> text = {}) {
  if (!is_standard_output(path)) return mobilediffusion::write_png(path, image, text);
  check_output(path);
  const std::string png = mobilediffusion::encode_png(image, text);
  if (std::fwrite(png.data(), 1, png.size(), stdout) != png.size() || std::fflush(stdout) != 0)
    throw mobilediffusion::Error("standard output: cannot write: " + std::generic_category().message(errno));
}

}  // namespace examples
