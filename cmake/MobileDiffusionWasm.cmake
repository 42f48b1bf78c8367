# SPDX-License-Identifier: Apache-2.0
# The library for WebAssembly, out of what prepare_wasm.sh laid into `packages`: mobilediffusion::mobilediffusion with headers,
# flags, and sentencepiece and utf8proc compiled along. Expects emscripten's toolchain file and no build type.
#
# MOBILEDIFFUSION_WASM_THREADS: workers, which a page has only where it is cross-origin isolated.
option(MOBILEDIFFUSION_WASM_THREADS "Compute on several threads" OFF)
option(MOBILEDIFFUSION_WASM_SIMD "Instructions of 128 bits, which engines have had since 2021 to 2023" ON)

set(packages "${CMAKE_CURRENT_LIST_DIR}/../build/wasm")
set(wasm_flags -fwasm-exceptions)
if(MOBILEDIFFUSION_WASM_SIMD)
  list(APPEND wasm_flags -msimd128)
endif()
if(MOBILEDIFFUSION_WASM_THREADS)
  list(APPEND wasm_flags -pthread)
endif()
add_compile_options(${wasm_flags})
add_link_options(${wasm_flags} -O2 -sALLOW_MEMORY_GROWTH=1)

set(MOBILEDIFFUSION_TOKENIZER_SOURCES "${packages}")
include("${CMAKE_CURRENT_LIST_DIR}/MobileDiffusionTokenizers.cmake")
target_compile_options(mobilediffusion_tokenizers PRIVATE -O2)  # there is no build type

add_library(mobilediffusion INTERFACE)
add_library(mobilediffusion::mobilediffusion ALIAS mobilediffusion)
target_compile_features(mobilediffusion INTERFACE cxx_std_20)
target_include_directories(mobilediffusion INTERFACE "${CMAKE_CURRENT_LIST_DIR}/../include")
target_include_directories(mobilediffusion SYSTEM INTERFACE "${packages}/include")
target_link_libraries(mobilediffusion INTERFACE mobilediffusion::sentencepiece mobilediffusion::utf8proc)
if(NOT MOBILEDIFFUSION_WASM_THREADS)
  target_compile_definitions(mobilediffusion INTERFACE MOBILEDIFFUSION_NO_THREADS)
endif()

include("${CMAKE_CURRENT_LIST_DIR}/MobileDiffusionDispatch.cmake")
