# SPDX-License-Identifier: Apache-2.0
# The library for WebAssembly, out of what prepare_wasm.sh laid into `packages`: mobilediffusion::mobilediffusion with headers,
# flags, and sentencepiece and utf8proc compiled along. Expects emscripten's toolchain file and no build type.
#
# MOBILEDIFFUSION_WASM_THREADS: workers, which a page has only where it is cross-origin isolated.
option(MOBILEDIFFUSION_WASM_THREADS "Compute on several threads" OFF)

set(packages "${CMAKE_CURRENT_LIST_DIR}/../build/wasm")
set(wasm_flags -msimd128 -fwasm-exceptions)
if(MOBILEDIFFUSION_WASM_THREADS)
  list(APPEND wasm_flags -pthread)
endif()
add_compile_options(${wasm_flags})
# -O1: emscripten 3.1.6 of Debian 12 does not end, or fails, where it is to optimize the JavaScript beside the module.
add_link_options(${wasm_flags} -O1 -sALLOW_MEMORY_GROWTH=1)

file(GLOB sentencepiece_sources "${packages}/sentencepiece/src/*.cc" "${packages}/sentencepiece/src/builtin_pb/*.cc"
  "${packages}/sentencepiece/third_party/absl/flags/flag.cc" "${packages}/sentencepiece/third_party/protobuf-lite/*.cc")
list(FILTER sentencepiece_sources EXCLUDE
  REGEX "_test\\.cc|_main\\.cc|/test|trainer|_for_training|builder|unicode_script|pretokenizer|io_win32|init\\.cc")
add_library(sentencepiece STATIC ${sentencepiece_sources} "${packages}/utf8proc/utf8proc.c")
file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/sentencepiece/config.h"
  "#define VERSION \"1\"\n#define PACKAGE \"sentencepiece\"\n#define PACKAGE_STRING PACKAGE\n")
target_compile_features(sentencepiece PRIVATE cxx_std_17)
target_compile_definitions(sentencepiece PRIVATE HAVE_PTHREAD=1 _USE_INTERNAL_STRING_VIEW UTF8PROC_STATIC)
target_compile_options(sentencepiece PRIVATE -O2 -w)
target_include_directories(sentencepiece PRIVATE "${CMAKE_CURRENT_BINARY_DIR}/sentencepiece" "${packages}/sentencepiece"
  "${packages}/sentencepiece/src/builtin_pb" "${packages}/sentencepiece/third_party/protobuf-lite")

add_library(mobilediffusion INTERFACE)
add_library(mobilediffusion::mobilediffusion ALIAS mobilediffusion)
target_compile_features(mobilediffusion INTERFACE cxx_std_20)
target_include_directories(mobilediffusion INTERFACE "${CMAKE_CURRENT_LIST_DIR}/../include")
target_include_directories(mobilediffusion SYSTEM INTERFACE "${packages}/include")
target_link_libraries(mobilediffusion INTERFACE sentencepiece)
target_compile_definitions(mobilediffusion INTERFACE UTF8PROC_STATIC)
if(NOT MOBILEDIFFUSION_WASM_THREADS)
  target_compile_definitions(mobilediffusion INTERFACE MOBILEDIFFUSION_NO_THREADS)
endif()

include("${CMAKE_CURRENT_LIST_DIR}/MobileDiffusionDispatch.cmake")
