# SPDX-License-Identifier: Apache-2.0
# What our own programs are compiled with: nothing of it reaches users of the library.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release (the default), RelWithDebInfo or MinSizeRel" FORCE)
endif()

add_library(mobilediffusion_program INTERFACE)
target_link_libraries(mobilediffusion_program INTERFACE mobilediffusion::mobilediffusion)
target_compile_options(mobilediffusion_program INTERFACE -Wall -Wextra -Werror=switch)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # GCC 12 takes its own _mm512_undefined_ps() for a mistake (its bug 105593)
  target_compile_options(mobilediffusion_program INTERFACE -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
if(MOBILEDIFFUSION_NATIVE)
  target_compile_options(mobilediffusion_program INTERFACE -march=native)
endif()

# The emoji data of the examples: drawn by FreeType and HarfBuzz; Eigen for the statistics of pictures. The target exists where
# all are.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(MOBILEDIFFUSION_FONTS QUIET IMPORTED_TARGET freetype2 harfbuzz)
endif()
find_package(Eigen3 QUIET NO_MODULE)
if(MOBILEDIFFUSION_FONTS_FOUND AND TARGET Eigen3::Eigen)
  add_library(mobilediffusion_emoji INTERFACE)
  target_include_directories(mobilediffusion_emoji INTERFACE "${PROJECT_SOURCE_DIR}/examples")
  target_link_libraries(mobilediffusion_emoji INTERFACE PkgConfig::MOBILEDIFFUSION_FONTS Eigen3::Eigen)
endif()
