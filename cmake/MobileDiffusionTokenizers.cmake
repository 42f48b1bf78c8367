# SPDX-License-Identifier: Apache-2.0
# The tokenizers' libraries out of their sources, for systems that have no packages of them, and for programs that need nothing
# beside them: MOBILEDIFFUSION_TOKENIZER_SOURCES is a folder with sentencepiece (0.1.97 to 0.2) and utf8proc as their authors
# publish them. Of sentencepiece the part that reads a model.
set(folder "${MOBILEDIFFUSION_TOKENIZER_SOURCES}")
foreach(file IN ITEMS sentencepiece/src/sentencepiece_processor.cc utf8proc/utf8proc.c)
  if(NOT EXISTS "${folder}/${file}")
    message(FATAL_ERROR "mobilediffusion: MOBILEDIFFUSION_TOKENIZER_SOURCES: expected a folder with ${file}, found '${folder}'")
  endif()
endforeach()
enable_language(C)
file(GLOB sources "${folder}/sentencepiece/src/*.cc" "${folder}/sentencepiece/src/builtin_pb/*.cc"
  "${folder}/sentencepiece/third_party/absl/flags/flag.cc" "${folder}/sentencepiece/third_party/protobuf-lite/*.cc")
list(FILTER sources EXCLUDE
  REGEX "_test\\.cc|_main\\.cc|/test|trainer|_for_training|builder|unicode_script|pretokenizer|io_win32|init\\.cc")
file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/tokenizers/config.h"
  CONTENT "#define VERSION \"1\"\n#define PACKAGE \"sentencepiece\"\n#define PACKAGE_STRING PACKAGE\n")
add_library(mobilediffusion_tokenizers STATIC ${sources} "${folder}/utf8proc/utf8proc.c")
set_target_properties(mobilediffusion_tokenizers PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
  C_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_compile_features(mobilediffusion_tokenizers PRIVATE cxx_std_17)
target_compile_definitions(mobilediffusion_tokenizers PUBLIC UTF8PROC_STATIC PRIVATE HAVE_PTHREAD=1 _USE_INTERNAL_STRING_VIEW)
if(NOT MSVC)
  target_compile_options(mobilediffusion_tokenizers PRIVATE -w -ffunction-sections -fdata-sections "$<$<CONFIG:Release>:-Os>")
endif()
target_include_directories(mobilediffusion_tokenizers
  PUBLIC "${folder}/sentencepiece/src" "${folder}/utf8proc"
  PRIVATE "${CMAKE_CURRENT_BINARY_DIR}/tokenizers" "${folder}/sentencepiece" "${folder}/sentencepiece/src/builtin_pb"
    "${folder}/sentencepiece/third_party/protobuf-lite")
foreach(library IN ITEMS sentencepiece utf8proc)
  add_library(mobilediffusion::${library} INTERFACE IMPORTED GLOBAL)
  set_target_properties(mobilediffusion::${library} PROPERTIES INTERFACE_LINK_LIBRARIES mobilediffusion_tokenizers)
endforeach()
