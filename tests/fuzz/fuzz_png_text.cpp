// SPDX-License-Identifier: Apache-2.0
// The texts of a PNG file. Chunks carry checksums that no blind change would get right: an input that does not begin as a PNG
// does is a list of chunks, each its name of four letters and its body, cut by lines of "--", and gets signature, lengths and
// checksums.
#include "fuzz.hpp"
#include "mobilediffusion/io/read_image.hpp"

namespace md = mobilediffusion;

namespace {

std::string png_of(std::string_view chunks) {
  std::string png(md::detail::png_signature);
  constexpr std::string_view between = "\n--\n";
  for (bool more = true; more;) {
    const std::size_t at = chunks.find(between);
    std::string chunk(chunks.substr(0, at));
    more = at != chunks.npos;
    if (more) chunks.remove_prefix(at + between.size());
    chunk.resize(std::max<std::size_t>(chunk.size(), 4), 'x');
    png += md::detail::big_endian(static_cast<std::uint32_t>(chunk.size() - 4)) + chunk +
           md::detail::big_endian(md::detail::crc32(chunk));
  }
  return png;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder("png_text");
  const std::string_view input = fuzz::text_of(data, size);
  const auto path = folder.write("input", input.starts_with("\x89PNG") ? std::string(input) : png_of(input));
  return fuzz::read([&] {
    for (const auto& [keyword, text] : md::read_png_text(path))
      fuzz::expect(md::find_invalid_utf8(text) == std::string_view::npos, "texts in UTF-8");
  });
}
