// SPDX-License-Identifier: Apache-2.0
// JPEG by libjpeg (libjpeg-turbo): baseline, progressive and arithmetic-coded, grey, YCbCr, RGB, CMYK and YCCK.
#pragma once

#include "../core/begin.hpp"

#include <stddef.h>
#include <stdio.h>
// jpeglib.h needs the two above before it.
#include <jpeglib.h>
// jerror.h needs jpeglib.h before it.
#include <jerror.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "../core/error.hpp"
#include "decoder.hpp"
#include "message.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail {

// libjpeg over bytes in memory. Its functions return false where it fails; failure.message then says why.
class JpegDecoder {
 public:
  DecoderFailure failure{};
  std::size_t width = 0, height = 0, channels = 0;
  int orientation = 1;

  explicit JpegDecoder(std::string_view bytes) : bytes_(bytes) {}
  ~JpegDecoder() { ::jpeg_destroy_decompress(&jpeg_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  // Fills width, height, orientation and channels: 3 (RGB), or 4 (CMYK).
  bool read_header() {
    jpeg_.err = ::jpeg_std_error(&errors_);
    errors_.error_exit = on_error;
    errors_.emit_message = on_message;
    jpeg_.client_data = this;
    if (setjmp(failure.jump) != 0) return false;
    ::jpeg_CreateDecompress(&jpeg_, JPEG_LIB_VERSION, sizeof jpeg_);
    jpeg_.client_data = this;
    progress_.progress_monitor = on_progress;
    jpeg_.progress = &progress_;
    ::jpeg_mem_src(&jpeg_, reinterpret_cast<const unsigned char*>(bytes_.data()), static_cast<unsigned long>(bytes_.size()));
    ::jpeg_save_markers(&jpeg_, exif_marker, 0xFFFF);
    ::jpeg_read_header(&jpeg_, TRUE);
    const int components = jpeg_.num_components;
    if (components != 1 && components != 3 && components != 4) failure.leave("expected 1, 3 or 4 colour components");
    width = jpeg_.image_width;
    height = jpeg_.image_height;
    channels = components == 4 ? 4 : 3;
    jpeg_.out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
    for (const ::jpeg_marker_struct* m = jpeg_.marker_list; m != nullptr; m = m->next) {
      const std::string_view data(reinterpret_cast<const char*>(m->data), m->data_length);
      constexpr std::string_view exif("Exif\0\0", 6);
      if (m->marker == exif_marker && data.starts_with(exif)) {
        orientation = exif_orientation(data.substr(exif.size()));
        break;
      }
    }
    return true;
  }
  // out: [height][width][channels].
  bool read_rows(std::uint8_t* out) {
    if (setjmp(failure.jump) != 0) return false;
    // What a picture with several scans needs: two bytes for each coefficient; more asks for files on a disk, which are refused.
    jpeg_.mem->max_memory_to_use = static_cast<long>((std::size_t{16} << 20) + 2 * 4 * width * height);
    jpeg_.do_block_smoothing = FALSE;
    ::jpeg_start_decompress(&jpeg_);
    if (jpeg_.output_width != width || jpeg_.output_height != height ||
        static_cast<std::size_t>(jpeg_.output_components) != channels)
      failure.leave("it contradicts itself in its size");
    while (jpeg_.output_scanline < jpeg_.output_height) {
      JSAMPROW row = out + jpeg_.output_scanline * width * channels;
      ::jpeg_read_scanlines(&jpeg_, &row, 1);
    }
    ::jpeg_finish_decompress(&jpeg_);
    return true;
  }

 private:
  static constexpr int exif_marker = JPEG_APP0 + 1;

  static JpegDecoder& self(::j_common_ptr jpeg) { return *static_cast<JpegDecoder*>(jpeg->client_data); }
  static void on_error(::j_common_ptr jpeg) {
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    self(jpeg).failure.leave(text);
  }
  // level: -1 for a warning. Some are of harmless oddities that cameras write; all others are of damage, for which libjpeg would
  // make something up.
  static void on_message(::j_common_ptr jpeg, int level) {
    if (level >= 0) return;
    switch (jpeg->err->msg_code) {
      case JWRN_ADOBE_XFORM:
      case JWRN_EXTRANEOUS_DATA:
      case JWRN_JFIF_MAJOR:
      case JWRN_NOT_SEQUENTIAL:
        return;
      default:
        on_error(jpeg);
    }
  }
  // Each scan passes over the whole picture, and 10 bytes of file are enough for one.
  static void on_progress(::j_common_ptr jpeg) {
    JpegDecoder& d = self(jpeg);
    constexpr std::size_t most_scans = 100, most_pixels = std::size_t{1} << 30;
    const auto scans = static_cast<std::size_t>(d.jpeg_.input_scan_number);
    if (scans > most_scans || scans > 16 + most_pixels / (d.width * d.height)) d.failure.leave("too many scans");
  }

  std::string_view bytes_;
  ::jpeg_decompress_struct jpeg_{};
  ::jpeg_error_mgr errors_{};
  ::jpeg_progress_mgr progress_{};
};

// CMYK as all that write it into JPEG do: inverted, 255 is no ink. Source: Adobe's technical note 5116, and what browsers do.
inline void rgb_from_inverted_cmyk(DecodedImage& image) {
  const std::size_t pixels = image.width * image.height;
  for (std::size_t i = 0; i < pixels; ++i)
    for (std::size_t c = 0; c < 3; ++c) {
      const std::uint8_t* const cmyk = &image.bytes[4 * i];
      image.bytes[3 * i + c] = static_cast<std::uint8_t>((cmyk[c] * cmyk[3] + 127) / 255);
    }
  image.channels = 3;
  image.bytes.resize(3 * pixels);
}

inline DecodedImage decode_jpeg(std::string_view what, std::string_view file, std::size_t max_pixels) {
  JpegDecoder decoder(file);
  const auto fail = [&] { throw Error(join({what, ": cannot decode the JPEG image: ", decoder.failure.message})); };
  if (!decoder.read_header()) fail();
  check_image_size(what, decoder.width, decoder.height, max_pixels);
  DecodedImage image{decoder.width, decoder.height, decoder.channels, decoder.orientation, {}};
  image.bytes.resize(image.width * image.height * image.channels);
  if (!decoder.read_rows(image.bytes.data())) fail();
  if (image.channels == 4) rgb_from_inverted_cmyk(image);
  return image;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::detail

#include "../core/end.hpp"
