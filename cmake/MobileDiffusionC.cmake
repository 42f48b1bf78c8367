# SPDX-License-Identifier: Apache-2.0
# The library for C: mobilediffusion::c, shared, and mobilediffusion::c_static; where BUILD_SHARED_LIBS says which, that one alone,
# as mobilediffusion::c. Installed, they are a package of their own, mobilediffusion_c, which needs nothing of what the C++ headers
# need but the tokenizers' libraries.
set(MOBILEDIFFUSION_C_PRESETS emoji CACHE STRING "Models that the C library can draw with: names in mobilediffusion::presets")
set(dispatch ON)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=")  # the kernels of all sets take minutes to compile then
  set(dispatch OFF)
endif()
option(MOBILEDIFFUSION_C_DISPATCH "The C library has kernels for several instruction sets; OFF: those of CMAKE_CXX_FLAGS" ${dispatch})
# By default one for each width of registers, with 8-bit products where these are common. AMX, bf16's products and AVX-VNNI are left
# out: 0.2 to 0.4 MB each.
set(MOBILEDIFFUSION_C_INSTRUCTION_SETS baseline avx2 avx512_vnni dotprod i8mm CACHE STRING
  "Of the instruction sets of include/mobilediffusion/simd/isa.hpp those that the C library has kernels for, or `all`")
include(GNUInstallDirs)

# The unit, once for both libraries; for size, since what takes time are kernels.
set(folder "${CMAKE_CURRENT_LIST_DIR}")
add_library(mobilediffusion_c_objects OBJECT "${folder}/mobilediffusion_c.cpp")
list(TRANSFORM MOBILEDIFFUSION_C_PRESETS REPLACE "(.+)" "MOBILEDIFFUSION_C_PRESET(\\1)" OUTPUT_VARIABLE presets)
list(JOIN presets " " presets)
set_target_properties(mobilediffusion_c_objects PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
  VISIBILITY_INLINES_HIDDEN ON)
target_compile_definitions(mobilediffusion_c_objects PRIVATE "MOBILEDIFFUSION_C_PRESETS=${presets}")
target_link_libraries(mobilediffusion_c_objects PRIVATE mobilediffusion::mobilediffusion)
if(NOT MSVC)
  target_compile_options(mobilediffusion_c_objects PRIVATE -ffunction-sections -fdata-sections)
  set_property(SOURCE "${folder}/mobilediffusion_c.cpp" APPEND PROPERTY COMPILE_OPTIONS "$<$<CONFIG:Release>:-Os>")
endif()
set(kernels "")
set(count 1)
if(MOBILEDIFFUSION_C_DISPATCH)
  _mobilediffusion_find_instruction_sets()
  get_property(possible GLOBAL PROPERTY MOBILEDIFFUSION_INSTRUCTION_SETS)
  list(LENGTH possible count)
endif()
if(count GREATER 1)
  set(isas "")
  foreach(isa IN LISTS possible)
    if(isa IN_LIST MOBILEDIFFUSION_C_INSTRUCTION_SETS OR MOBILEDIFFUSION_C_INSTRUCTION_SETS STREQUAL "all")
      list(APPEND isas ${isa})
    endif()
  endforeach()
  if(NOT isas)
    message(FATAL_ERROR "MOBILEDIFFUSION_C_INSTRUCTION_SETS: expected some of ${possible}, or all, found ${MOBILEDIFFUSION_C_INSTRUCTION_SETS}")
  endif()
  foreach(isa IN LISTS isas)
    _mobilediffusion_set_library(${isa} ${count})
    list(APPEND kernels mobilediffusion_kernels_${isa})
  endforeach()
  list(LENGTH isas count)
  list(TRANSFORM isas REPLACE "(.+)" "MOBILEDIFFUSION_ROW(\\1)" OUTPUT_VARIABLE rows)
  list(JOIN rows " " rows)
  target_compile_definitions(mobilediffusion_c_objects PRIVATE MOBILEDIFFUSION_DISPATCH=${count} "MOBILEDIFFUSION_BUILT_ISAS=${rows}")
else()  # its own, since our programs' are for this machine
  target_sources(mobilediffusion_c_objects PRIVATE "${folder}/mobilediffusion_kernels.cpp")
  target_compile_definitions(mobilediffusion_c_objects PRIVATE MOBILEDIFFUSION_DISPATCH=1)
  set_property(SOURCE "${folder}/mobilediffusion_kernels.cpp" APPEND PROPERTY COMPILE_DEFINITIONS
    MOBILEDIFFUSION_ISA=compiled MOBILEDIFFUSION_LIBRARIES=1)
endif()

set_property(GLOBAL PROPERTY MOBILEDIFFUSION_C_SETS ${count})

# For who links the static one by a compiler of C.
set(c_runtime stdc++)
if(APPLE OR ANDROID OR CMAKE_CXX_FLAGS MATCHES "-stdlib=libc\\+\\+")
  set(c_runtime c++)
endif()

# What C sees of them, built here or installed.
function(_mobilediffusion_c_properties target name)
  add_library(mobilediffusion::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} OUTPUT_NAME mobilediffusion LINKER_LANGUAGE CXX)
  target_include_directories(${target} INTERFACE
    $<BUILD_INTERFACE:${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endfunction()

set(c_libraries "")
if(BUILD_SHARED_LIBS OR NOT DEFINED BUILD_SHARED_LIBS)
  list(APPEND c_libraries mobilediffusion_c)
  add_library(mobilediffusion_c SHARED $<TARGET_OBJECTS:mobilediffusion_c_objects>)
  _mobilediffusion_c_properties(mobilediffusion_c c)
  set_target_properties(mobilediffusion_c PROPERTIES VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  target_link_libraries(mobilediffusion_c PRIVATE ${kernels} mobilediffusion::mobilediffusion)

  # Only what the header declares leaves the library: not the standard library's templates either.
  set(header "${folder}/../include/mobilediffusion/c_api.h")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${header}")
  file(READ "${header}" text)
  string(REGEX MATCHALL "MOBILEDIFFUSION_API [^;(]*\\(" functions "${text}")
  list(TRANSFORM functions REPLACE ".*[ *]([a-z_]+)\\($" "\\1")
  if(APPLE)
    list(JOIN functions "\n_" list)
    file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/mobilediffusion_c.symbols" CONTENT "_@list@\n" @ONLY)
    target_link_options(mobilediffusion_c PRIVATE "LINKER:-dead_strip,-exported_symbols_list,${CMAKE_CURRENT_BINARY_DIR}/mobilediffusion_c.symbols")
  elseif(CMAKE_EXECUTABLE_FORMAT STREQUAL "ELF")
    list(JOIN functions ";\n    " list)
    file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/mobilediffusion_c.map" @ONLY
      CONTENT "MOBILEDIFFUSION_@PROJECT_VERSION_MAJOR@.@PROJECT_VERSION_MINOR@ {\n  global:\n    @list@;\n  local:\n    *;\n};\n")
    target_link_options(mobilediffusion_c PRIVATE "LINKER:--version-script,${CMAKE_CURRENT_BINARY_DIR}/mobilediffusion_c.map"
      LINKER:--gc-sections)
  endif()
endif()

if(NOT BUILD_SHARED_LIBS)
  list(APPEND c_libraries mobilediffusion_c_static)
  # The static one holds the kernels too, and names what it needs besides.
  add_library(mobilediffusion_c_static STATIC $<TARGET_OBJECTS:mobilediffusion_c_objects>)
  if(TARGET mobilediffusion_c)
    _mobilediffusion_c_properties(mobilediffusion_c_static c_static)
  else()
    _mobilediffusion_c_properties(mobilediffusion_c_static c)
  endif()
  target_compile_definitions(mobilediffusion_c_static INTERFACE MOBILEDIFFUSION_C_STATIC)
  if(MSVC)
    set_target_properties(mobilediffusion_c_static PROPERTIES OUTPUT_NAME mobilediffusion_static)  # else the other's import library
  endif()
  target_link_libraries(mobilediffusion_c_static INTERFACE $<BUILD_INTERFACE:mobilediffusion::threads>)
  if(TARGET mobilediffusion_tokenizers)
    target_sources(mobilediffusion_c_static PRIVATE $<TARGET_OBJECTS:mobilediffusion_tokenizers>)
  else()
    target_link_libraries(mobilediffusion_c_static INTERFACE $<BUILD_INTERFACE:mobilediffusion::sentencepiece>
      $<BUILD_INTERFACE:mobilediffusion::utf8proc> $<INSTALL_INTERFACE:sentencepiece> $<INSTALL_INTERFACE:utf8proc>)
  endif()
  if(MOBILEDIFFUSION_THREADS AND NOT MSVC)
    target_link_libraries(mobilediffusion_c_static INTERFACE $<INSTALL_INTERFACE:-pthread>)
  endif()
  if(NOT MSVC)
    target_link_libraries(mobilediffusion_c_static INTERFACE $<INSTALL_INTERFACE:${c_runtime}> $<INSTALL_INTERFACE:m>)
  endif()
  if(kernels)
    set(objects "")
    foreach(library IN LISTS kernels)
      add_dependencies(mobilediffusion_c_static ${library})
      list(APPEND objects "$<TARGET_FILE:${library}>.o")  # one with two symbols, by _mobilediffusion_hide_symbols
    endforeach()
    add_custom_command(TARGET mobilediffusion_c_static POST_BUILD
      COMMAND "${CMAKE_AR}" qs $<TARGET_FILE:mobilediffusion_c_static> ${objects} VERBATIM)
  endif()
endif()

if(MOBILEDIFFUSION_INSTALL)
  include(CMakePackageConfigHelpers)
  set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/mobilediffusion_c")
  install(TARGETS ${c_libraries} EXPORT mobilediffusion_cTargets)
  install(EXPORT mobilediffusion_cTargets NAMESPACE mobilediffusion:: FILE mobilediffusion_cConfig.cmake
    DESTINATION "${package_dir}")
  write_basic_package_version_file(mobilediffusion_cConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/mobilediffusion_cConfigVersion.cmake" DESTINATION "${package_dir}")
  set(c_link_flags "")
  if(MOBILEDIFFUSION_THREADS)
    set(c_link_flags -pthread)
  endif()
  set(c_tokenizers "-lsentencepiece -lutf8proc")
  if(TARGET mobilediffusion_tokenizers)
    set(c_tokenizers "")
  endif()
  file(RELATIVE_PATH c_to_include "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix/${CMAKE_INSTALL_INCLUDEDIR}")
  configure_file("${folder}/mobilediffusion_c.pc.in" mobilediffusion_c.pc @ONLY)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/mobilediffusion_c.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endif()
