# SPDX-License-Identifier: Apache-2.0
# Finds what the headers include, in the source tree and from an installed package alike, as targets of our own:
# distributions name their targets differently, and the xsimd 8 target of Debian 12 asks for a library that is not there.

# Sets <missing> to one line for each dependency that was not found; empty when all is well.
function(mobilediffusion_find_dependencies missing)
  set(lacking "")

  # name, header (then what package managers call it), Debian package
  foreach(dependency IN ITEMS
      "xsimd|xsimd/xsimd.hpp|libxsimd-dev"
      "boost|boost/pfr.hpp|libboost1.81-dev (Debian 12) or libboost-dev (later)"
      "json|nlohmann/json.hpp|nlohmann-json3-dev"
      "stb|stb/stb_image_write.h stb_image_write.h|libstb-dev"
      "sentencepiece|sentencepiece_processor.h|libsentencepiece-dev"
      "utf8proc|utf8proc.h|libutf8proc-dev")
    string(REPLACE "|" ";" dependency "${dependency}")
    list(GET dependency 0 name)
    list(GET dependency 1 header)
    list(GET dependency 2 package)
    string(REPLACE " " ";" names "${header}")
    if(TARGET mobilediffusion_tokenizers AND name MATCHES "sentencepiece|utf8proc")  # compiled along
      continue()
    endif()
    string(TOUPPER "MOBILEDIFFUSION_${name}_INCLUDE_DIR" variable)
    find_path(${variable} NAMES ${names})
    mark_as_advanced(${variable})
    if(NOT ${variable})
      string(APPEND lacking "  <${header}>: Debian package ${package}\n")
    elseif(NOT TARGET mobilediffusion::${name})
      add_library(mobilediffusion::${name} INTERFACE IMPORTED GLOBAL)
      set_target_properties(mobilediffusion::${name} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${${variable}}")
    endif()
  endforeach()

  foreach(library IN ITEMS sentencepiece utf8proc)
    if(TARGET mobilediffusion_tokenizers)
      continue()
    endif()
    string(TOUPPER "MOBILEDIFFUSION_${library}_LIBRARY" variable)
    find_library(${variable} ${library})
    mark_as_advanced(${variable})
    if(NOT ${variable})
      string(APPEND lacking "  the library ${library}: Debian package lib${library}-dev\n")
    elseif(TARGET mobilediffusion::${library})
      set_target_properties(mobilediffusion::${library} PROPERTIES INTERFACE_LINK_LIBRARIES "${${variable}}")
    endif()
  endforeach()

  # Training tokenizers (train/tokenizer.hpp) is a library of its own, which who only draws need not have.
  find_library(MOBILEDIFFUSION_SENTENCEPIECE_TRAIN_LIBRARY sentencepiece_train)
  mark_as_advanced(MOBILEDIFFUSION_SENTENCEPIECE_TRAIN_LIBRARY)
  if(MOBILEDIFFUSION_SENTENCEPIECE_TRAIN_LIBRARY AND NOT TARGET mobilediffusion::sentencepiece_train)
    add_library(mobilediffusion::sentencepiece_train INTERFACE IMPORTED GLOBAL)
    set_target_properties(mobilediffusion::sentencepiece_train PROPERTIES
      INTERFACE_LINK_LIBRARIES "${MOBILEDIFFUSION_SENTENCEPIECE_TRAIN_LIBRARY}")
  endif()

  # Reading pictures (io/read_image.hpp) is optional: drawing and writing them need neither library. Without them the headers do
  # not find theirs either, and the target is not there.
  foreach(dependency IN ITEMS "png|png.h" "z|zlib.h" "jpeg|jpeglib.h")
    string(REPLACE "|" ";" dependency "${dependency}")
    list(GET dependency 0 name)
    list(GET dependency 1 header)
    string(TOUPPER "MOBILEDIFFUSION_${name}" variable)
    find_path(${variable}_INCLUDE_DIR ${header})
    find_library(${variable}_LIBRARY ${name})
    mark_as_advanced(${variable}_INCLUDE_DIR ${variable}_LIBRARY)
    list(APPEND picture_parts "${${variable}_INCLUDE_DIR}" "${${variable}_LIBRARY}")
  endforeach()
  if(NOT TARGET mobilediffusion::pictures AND NOT picture_parts MATCHES "NOTFOUND")
    add_library(mobilediffusion::pictures INTERFACE IMPORTED GLOBAL)
    set_target_properties(mobilediffusion::pictures PROPERTIES INTERFACE_COMPILE_DEFINITIONS MOBILEDIFFUSION_ZLIB
      INTERFACE_INCLUDE_DIRECTORIES "${MOBILEDIFFUSION_PNG_INCLUDE_DIR};${MOBILEDIFFUSION_Z_INCLUDE_DIR};${MOBILEDIFFUSION_JPEG_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES "${MOBILEDIFFUSION_PNG_LIBRARY};${MOBILEDIFFUSION_Z_LIBRARY};${MOBILEDIFFUSION_JPEG_LIBRARY}")
  elseif(NOT TARGET mobilediffusion::pictures)
    message(STATUS "mobilediffusion: no libpng or libjpeg (Debian: libpng-dev libjpeg-dev): pictures are written, not read")
  endif()

  # Without threads the library is the same, on one.
  if(NOT TARGET mobilediffusion::threads)
    add_library(mobilediffusion::threads INTERFACE IMPORTED GLOBAL)
    if(MOBILEDIFFUSION_THREADS)
      set(THREADS_PREFER_PTHREAD_FLAG ON)
      find_package(Threads QUIET)
      if(Threads_FOUND)  # copied: the target of FindThreads is not visible outside of the directory that asked for it
        foreach(property IN ITEMS INTERFACE_COMPILE_OPTIONS INTERFACE_LINK_LIBRARIES)
          get_target_property(value Threads::Threads ${property})
          if(value)
            set_target_properties(mobilediffusion::threads PROPERTIES ${property} "${value}")
          endif()
        endforeach()
      else()
        string(APPEND lacking "  threads of this system: set MOBILEDIFFUSION_THREADS to OFF to do without\n")
      endif()
    else()
      set_target_properties(mobilediffusion::threads PROPERTIES INTERFACE_COMPILE_DEFINITIONS MOBILEDIFFUSION_NO_THREADS)
    endif()
  endif()

  # A user's choice, so not made here, but most who made none do not want what they get. Our own programs choose for themselves.
  get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  if(NOT CMAKE_BUILD_TYPE AND NOT multi_config AND NOT "${CMAKE_CXX_FLAGS}" MATCHES "-O" AND NOT top_level)
    message(STATUS "mobilediffusion: no CMAKE_BUILD_TYPE, so code is not optimized and a picture takes tens of times longer: "
      "-D CMAKE_BUILD_TYPE=Release")
  endif()

  set(${missing} "${lacking}" PARENT_SCOPE)
endfunction()
