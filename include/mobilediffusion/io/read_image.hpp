// SPDX-License-Identifier: Apache-2.0
// Reads PNG and JPEG as a person sees them, by libpng and libjpeg. Who includes this links them: -lpng -lz -ljpeg, or the CMake
// target, which does where it finds them. Drawing and writing pictures need neither.
#pragma once

#include "../core/begin.hpp"

#if !__has_include(<png.h>) || !__has_include(<zlib.h>) || !__has_include(<jpeglib.h>)
#error \
    "mobilediffusion: reading pictures needs libpng and libjpeg; install their headers (Debian: libpng-dev libjpeg-dev) and link -lpng -lz -ljpeg"
#else

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "../core/error.hpp"
#include "atomic_file.hpp"
#include "decoder.hpp"
#include "image.hpp"
#include "jpeg_reader.hpp"
#include "message.hpp"
#include "png_reader.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

struct ReadImageOptions {
  std::size_t max_pixels = max_image_pixels;  // larger pictures are refused before anything of their size is allocated
  std::array<std::uint8_t, 3> background{255, 255, 255};  // what is seen through transparent pixels
};

namespace detail {

// The pixels turned upright: orientation 1 to 8 as Exif 2.32 numbers them.
inline DecodedImage upright(DecodedImage image) {
  const int o = image.orientation;
  if (o == 1) return image;
  const bool turned = o >= 5, mirrored = o == 2 || o == 3 || o == 7 || o == 8, upside_down = o == 3 || o == 4 || o == 6 || o == 7;
  const std::size_t n = image.channels, w = image.width, h = image.height;
  DecodedImage out{turned ? h : w, turned ? w : h, n, 1, std::vector<std::uint8_t>(image.bytes.size())};
  // Of the old picture, in tiles, so that rows and columns both stay in the cache.
  constexpr std::size_t tile = 32;
  for (std::size_t top = 0; top < h; top += tile)
    for (std::size_t left = 0; left < w; left += tile)
      for (std::size_t y = top; y < std::min(top + tile, h); ++y)
        for (std::size_t x = left; x < std::min(left + tile, w); ++x) {
          const std::size_t to_x = mirrored ? w - 1 - x : x, to_y = upside_down ? h - 1 - y : y;
          const std::size_t to = turned ? to_x * h + to_y : to_y * w + to_x;
          std::copy_n(&image.bytes[(y * w + x) * n], n, &out.bytes[to * n]);
        }
  return out;
}

// Alpha over a background, in the values of the file (as browsers and viewers do), rounded.
inline Image over(DecodedImage image, const std::array<std::uint8_t, 3>& background) {
  Image out;
  out.width = image.width, out.height = image.height;
  if (image.channels == 4) {
    const std::size_t pixels = image.width * image.height;
    for (std::size_t i = 0; i < pixels; ++i) {
      const unsigned alpha = image.bytes[4 * i + 3];
      for (std::size_t c = 0; c < 3; ++c)
        image.bytes[3 * i + c] =
            static_cast<std::uint8_t>((image.bytes[4 * i + c] * alpha + background[c] * (255 - alpha) + 127) / 255);
    }
    image.bytes.resize(3 * pixels);
  }
  out.rgb = std::move(image.bytes);
  return out;
}

// The name of a format that people try, or nothing.
inline std::string_view other_image_format(std::string_view file) {
  const auto at = [&](std::size_t i, std::string_view bytes) { return file.size() >= i && file.substr(i).starts_with(bytes); };
  if (at(0, "GIF8")) return "a GIF";
  if (at(0, "BM")) return "a BMP";
  if (at(0, "RIFF") && at(8, "WEBP")) return "a WebP";
  if (at(0, "II*") || at(0, std::string_view("MM\0*", 4))) return "a TIFF or raw";
  if (at(4, "ftypavi")) return "an AVIF";
  if (at(4, "ftyphei") || at(4, "ftyphev") || at(4, "ftypmif") || at(4, "ftypmsf")) return "a HEIC";
  if (at(0, "\xFF\x0A") || at(4, "JXL ")) return "a JPEG XL";
  if (at(4, "jP  ") || at(0, "\xFF\x4F\xFF\x51")) return "a JPEG 2000";
  if (at(0, "8BPS")) return "a Photoshop";
  if (at(0, "%PDF")) return "a PDF";
  if (at(0, "<svg") || at(0, "<?xml")) return "an SVG";
  return {};
}

inline Image decode_image(std::string_view what, std::string_view file, const ReadImageOptions& options) {
  DecodedImage image;
  if (file.starts_with(png_signature)) image = decode_png(what, file, options.max_pixels);
  else if (file.starts_with("\xFF\xD8\xFF")) image = decode_jpeg(what, file, options.max_pixels);
  else if (const auto name = other_image_format(file); !name.empty())
    throw Error(join({what, ": expected a PNG or JPEG image, found ", name, " image: save it as PNG first"}));
  else throw Error(join({what, ": expected a PNG or JPEG image, found something else"}));
  return over(upright(std::move(image)), options.background);
}

}  // namespace detail

// The picture in the bytes of a PNG or JPEG file, as 8-bit RGB: alpha is composited over the background; the orientation in Exif
// data is applied; 16 bits are rounded; grey, palettes, CMYK (without a profile) become RGB. Gamma and colour profiles are not
// looked at. Throws Error with the decoder's reason for damaged and cut files, and for too many pixels.
inline Image decode_image(std::string_view file, const ReadImageOptions& options = {}) {
  return detail::decode_image("image", file, options);
}
inline Image read_image(const std::filesystem::path& path, const ReadImageOptions& options = {}) {
  const std::string file = read_file(path);
  return detail::decode_image(detail::join({"file ", detail::printable(path.string())}), file, options);
}

// A picture as a mask, for ImageToImage::inpaint: a pixel is painted as much as it is white and opaque. Transparent pixels are
// black, so they are kept.
inline Image read_mask(const std::filesystem::path& path, std::size_t max_pixels = max_image_pixels) {
  return read_image(path, {.max_pixels = max_pixels, .background = {0, 0, 0}});
}

// The texts of a PNG file as UTF-8: tEXt and zTXt (from Latin-1) and iTXt, 16 MiB of compressed ones at most; of equal keywords
// the last one. Throws Error for a file that is no PNG or is damaged (lengths, checksums, compressed data).
inline std::map<std::string, std::string> read_png_text(const std::filesystem::path& path) {
  const std::string file = read_file(path);
  return detail::png_texts(detail::join({"file ", detail::printable(path.string())}), file);
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#endif

#include "../core/end.hpp"
