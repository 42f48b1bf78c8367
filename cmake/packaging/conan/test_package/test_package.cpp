// SPDX-License-Identifier: Apache-2.0
#include <mobilediffusion/io/image.hpp>
#include <mobilediffusion/kernels/kernels.hpp>
#ifdef WITH_C
#include <mobilediffusion/c_api.h>
#endif

#include <cstdio>

int main() {
  const mobilediffusion::Image image(8, 8);
  std::printf("a PNG of %zu bytes, kernels for %s\n", mobilediffusion::encode_png(image).size(),
              mobilediffusion::kernels::instruction_set());
#ifdef WITH_C
  std::printf("library for C: %s\n", mobilediffusion_version_text());
#endif
}
