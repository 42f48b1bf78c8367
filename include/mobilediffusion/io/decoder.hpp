// SPDX-License-Identifier: Apache-2.0
// What the decoders of PNG and JPEG share: what they give, and how a C library reports failure to C++.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "../core/error.hpp"
#include "image.hpp"
#include "message.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

// bytes: [height][width][channels]; channels: 3, or 4 with alpha. orientation: as Exif numbers it, not yet applied.
struct DecodedImage {
  std::size_t width = 0, height = 0, channels = 3;
  int orientation = 1;
  std::vector<std::uint8_t> bytes;
};

// Throws Error for a picture that is too large, before memory of its size is asked for. what: the file, for messages.
void check_image_size(std::string_view what, std::size_t width, std::size_t height, std::size_t max_pixels);

// libpng and libjpeg leave a function that fails by longjmp, which skips destructors: whoever calls setjmp on jump, and the
// callbacks, hold nothing that has one.
struct DecoderFailure {
  std::jmp_buf jump;
  char message[200];

  void leave(const char* text);
};

// The orientation in Exif data, which are a TIFF file: 1 (upright) where there is none or the data are no such file. Source: TIFF
// 6.0, section 2; Exif 2.32, tag 0x0112.
int exif_orientation(std::string_view tiff) noexcept;

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY void check_image_size(std::string_view what, std::size_t width, std::size_t height, std::size_t max_pixels) {
  const std::size_t most = std::min(max_pixels, max_image_pixels);
  if (height != 0 && width > most / height)
    throw Error(join({what, ": image of ", width, " x ", height, " pixels, at most ", most, " are accepted"}));
}

MOBILEDIFFUSION_BODY void DecoderFailure::leave(const char* text) {
  std::strncpy(message, text, sizeof message - 1);
  message[sizeof message - 1] = '\0';
  std::longjmp(jump, 1);
}

MOBILEDIFFUSION_BODY int exif_orientation(std::string_view tiff) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(tiff[i])); };
  if (tiff.size() < 8 || (!tiff.starts_with(std::string_view("II*\0", 4)) && !tiff.starts_with(std::string_view("MM\0*", 4))))
    return 1;
  const bool little = tiff[0] == 'I';
  const auto u16 = [&](std::size_t i) { return little ? byte(i) | byte(i + 1) << 8 : byte(i) << 8 | byte(i + 1); };
  const auto u32 = [&](std::size_t i) { return little ? u16(i) | u16(i + 2) << 16 : u16(i) << 16 | u16(i + 2); };
  const std::size_t directory = u32(4);
  if (directory > tiff.size() - 2) return 1;
  const std::size_t entries = u16(directory);
  for (std::size_t k = 0; k < entries; ++k) {
    const std::size_t entry = directory + 2 + 12 * k;  // tag, type, count, value
    if (entry + 12 > tiff.size()) return 1;
    if (u16(entry) != 0x0112) continue;
    const std::uint32_t type = u16(entry + 2), value = type == 3 ? u16(entry + 8) : type == 4 ? u32(entry + 8) : 0;
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
