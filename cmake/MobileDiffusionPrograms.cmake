# SPDX-License-Identifier: Apache-2.0
# What our own programs are compiled with: nothing of it reaches users of the library.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release (the default), RelWithDebInfo or MinSizeRel" FORCE)
endif()

# mobilediffusion_lacks(<component> <what> <packages>): says that something of the component TESTS, EXAMPLES or BENCH is left out;
# an error where it was asked for.
function(mobilediffusion_lacks component what packages)
  if(MOBILEDIFFUSION_${component} STREQUAL "AUTO")
    message(STATUS "mobilediffusion: left out: ${what} (Debian: ${packages})")
  else()
    message(FATAL_ERROR "mobilediffusion: ${what}: not found what they need (Debian: ${packages}); "
      "-D MOBILEDIFFUSION_${component}=AUTO leaves them out")
  endif()
endfunction()

# Flags alone; and with the library, its kernels compiled once for all programs.
add_library(mobilediffusion_flags INTERFACE)
target_compile_options(mobilediffusion_flags INTERFACE -Wall -Wextra -Werror=switch)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # GCC 12 takes its own _mm512_undefined_ps() for a mistake (its bug 105593)
  target_compile_options(mobilediffusion_flags INTERFACE -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
if(MOBILEDIFFUSION_NATIVE)
  target_compile_options(mobilediffusion_flags INTERFACE -march=native)
endif()
add_library(mobilediffusion_program INTERFACE)
target_link_libraries(mobilediffusion_program INTERFACE mobilediffusion_flags mobilediffusion::training)
mobilediffusion_kernels(mobilediffusion_program)
target_link_libraries(mobilediffusion_kernels_compiled PRIVATE mobilediffusion_flags)
target_link_libraries(mobilediffusion_bodies_compiled PRIVATE mobilediffusion_flags)

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
