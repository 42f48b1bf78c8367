// SPDX-License-Identifier: Apache-2.0
// A user with an stb of their own. STB: 1, its implementation before our headers; 2, after them; 3, asked for before and included
// after; 4, in another unit, which is this file with STB 5. Both write the same picture.
#if STB == 1 || STB == 3 || STB == 5
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#endif
#define STBI_WRITE_NO_STDIO
#if STB == 1 || STB == 5
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#endif

#if STB != 5
#include <mobilediffusion/io/image.hpp>
#if STB == 2
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#endif
#if STB != 1
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#endif

#if !defined(STBI_WRITE_NO_STDIO) || (STB != 4 && !defined(STB_IMAGE_WRITE_IMPLEMENTATION))
#error "expected the user's macros as they were"
#endif

static void append(void* to, void* data, int size) {
  static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<std::size_t>(size));
}

int main() {
  using namespace mobilediffusion;
  Image image(5, 4);
  for (std::size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<std::uint8_t>(7 * i);
  std::string theirs;
  const std::string ours = encode_png(image);
  if (stbi_write_png_to_func(append, &theirs, 5, 4, 3, image.rgb.data(), 15) == 0 || ours != theirs) return 1;
  int width = 0, height = 0, channels = 0;
  unsigned char* const pixels = stbi_load_from_memory(reinterpret_cast<const unsigned char*>(ours.data()),
                                                      static_cast<int>(ours.size()), &width, &height, &channels, 3);
  const bool equal = pixels != nullptr && width == 5 && height == 4 && std::equal(image.rgb.begin(), image.rgb.end(), pixels);
  stbi_image_free(pixels);
  return equal ? 0 : 2;
}
#endif
