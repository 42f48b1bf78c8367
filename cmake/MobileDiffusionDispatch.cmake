# SPDX-License-Identifier: Apache-2.0
# Kernels, and all functions that are no templates, in libraries of their own instead of in every unit that includes the headers:
# a unit that loads a model and draws compiles in a third of the time. A target takes one of the two:
#
# mobilediffusion_kernels(<target>): compiled once, for the flags of the directory that calls it first; with optimization also
# where the build type is Debug or none.
#
# mobilediffusion_dispatch(<target>): the target's kernels are those of the best instruction set of the machine that it runs on.
#
# On x86-64 and 64-bit ARM the kernels are compiled once for each set of include/mobilediffusion/simd/isa.hpp, each into a library
# with two symbols, the tables of what draws and of what only training calls; kernels/dispatch.hpp chooses among them at the first
# call. The target itself needs no -m flags. Elsewhere, and where the tools lack, they are compiled once, for the flags of the
# directory.
#
# Why no others: a function of a header that every library contains (std::to_string, a template of the kernels) is one function
# to the linker, which keeps any of them. It must not keep one with AVX-512 for a machine without. So the libraries' common
# symbols become local before anybody links them. A namespace for each instruction set would not reach the standard library's.

function(mobilediffusion_dispatch target)
  if(NOT TARGET mobilediffusion_dispatch)
    _mobilediffusion_build_kernels()
  endif()
  _mobilediffusion_link_kernels(${target} mobilediffusion_dispatch)
endfunction()

function(mobilediffusion_kernels target)
  if(NOT TARGET mobilediffusion_compiled)
    if(NOT TARGET mobilediffusion_kernels_compiled)  # by mobilediffusion_dispatch, where that has one set
      _mobilediffusion_kernel_library(mobilediffusion_kernels_compiled compiled 1)
    endif()
    add_library(mobilediffusion_compiled INTERFACE)
    target_compile_definitions(mobilediffusion_compiled INTERFACE MOBILEDIFFUSION_DISPATCH=1)
    _mobilediffusion_bodies_library(mobilediffusion_bodies_compiled)
    target_link_libraries(mobilediffusion_compiled INTERFACE mobilediffusion_bodies_compiled mobilediffusion::mobilediffusion
      mobilediffusion_kernels_compiled)
  endif()
  _mobilediffusion_link_kernels(${target} mobilediffusion_compiled)
endfunction()

function(_mobilediffusion_link_kernels target library)
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "INTERFACE_LIBRARY")
    target_link_libraries(${target} INTERFACE ${library})
  else()
    target_link_libraries(${target} PUBLIC ${library})  # who includes the headers through it must agree
  endif()
endfunction()

# What is no template and no kernel, for the flags of the directory: once for each kind of targets, whose flags may differ.
function(_mobilediffusion_bodies_library library)
  add_library(${library} STATIC "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/mobilediffusion_bodies.cpp")
  target_link_libraries(${library} PRIVATE mobilediffusion::mobilediffusion)
  target_compile_definitions(${library} PRIVATE MOBILEDIFFUSION_DISPATCH=1)
  set_target_properties(${library} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# Each function and table in a section of its own, so that a program linked with --gc-sections keeps what it calls.
# A library whose tables are mobilediffusion_kernels_<isa> and mobilediffusion_training_kernels_<isa>.
function(_mobilediffusion_kernel_library library isa count)
  add_library(${library} STATIC "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/mobilediffusion_kernels.cpp")
  target_link_libraries(${library} PRIVATE mobilediffusion::mobilediffusion)
  target_compile_definitions(${library} PRIVATE MOBILEDIFFUSION_ISA=${isa} MOBILEDIFFUSION_LIBRARIES=${count})
  if(NOT MSVC)
    target_compile_options(${library} PRIVATE -ffunction-sections -fdata-sections "$<$<OR:$<CONFIG:Debug>,$<CONFIG:>>:-O2>")
  endif()
  set_target_properties(${library} PROPERTIES POSITION_INDEPENDENT_CODE ON INTERPROCEDURAL_OPTIMIZATION OFF)
endfunction()

# Properties: MOBILEDIFFUSION_INSTRUCTION_SETS, those that can be built beside each other, named as in simd::Isa, or `compiled`;
# for each MOBILEDIFFUSION_FLAGS_<isa>, what simd::supported() asks for; MOBILEDIFFUSION_LINKER.
function(_mobilediffusion_find_instruction_sets)
  set(isas compiled)
  set(sets "")
  # Each set's flags follow the directory's -march, which the first of them replaces.
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
    set(sets baseline avx2 avx2_vnni avx512 avx512_vnni avx512_bf16_vnni amx)
    set(flags_baseline -march=x86-64)
    set(flags_avx2 ${flags_baseline} -mavx2 -mfma)
    set(flags_avx2_vnni ${flags_avx2} -mavxvnni)
    set(flags_avx512 ${flags_avx2} -mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl)
    set(flags_avx512_vnni ${flags_avx512} -mavx512vnni)
    set(flags_avx512_bf16_vnni ${flags_avx512_vnni} -mavx512bf16)
    set(flags_amx ${flags_avx512_bf16_vnni} -mamx-tile -mamx-bf16 -mamx-int8)
    list(APPEND flags_baseline -O2)  # for size: no processor since 2015 runs it
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
    set(sets baseline dotprod i8mm)
    set(flags_baseline -march=armv8-a)
    set(flags_dotprod -march=armv8.2-a+dotprod)
    set(flags_i8mm -march=armv8.2-a+dotprod+i8mm+bf16)
  endif()
  if(sets)
    _mobilediffusion_find_linker(linker)
    if(linker)
      set(isas ${sets})
    else()
      message(STATUS "mobilediffusion: no ld with --force-group-allocation (GNU ld, lld 19) or no objcopy: one instruction set")
    endif()
  endif()
  set_property(GLOBAL PROPERTY MOBILEDIFFUSION_INSTRUCTION_SETS ${isas})
  set_property(GLOBAL PROPERTY MOBILEDIFFUSION_LINKER "${linker}")
  foreach(isa IN LISTS isas)
    set_property(GLOBAL PROPERTY MOBILEDIFFUSION_FLAGS_${isa} ${flags_${isa}})
  endforeach()
endfunction()

# mobilediffusion_kernels_<isa>, one of `count` beside each other.
function(_mobilediffusion_set_library isa count)
  set(library mobilediffusion_kernels_${isa})
  if(TARGET ${library})
    return()
  endif()
  _mobilediffusion_kernel_library(${library} ${isa} ${count})
  if(count GREATER 1)
    get_property(flags GLOBAL PROPERTY MOBILEDIFFUSION_FLAGS_${isa})
    target_compile_options(${library} PRIVATE ${flags})
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # a fifth of the size; the vectors are ours, so no time
      target_compile_options(${library} PRIVATE -fno-unswitch-loops -fno-tree-loop-vectorize)
    endif()
    _mobilediffusion_hide_symbols(${library} ${isa})
  endif()
endfunction()

function(_mobilediffusion_build_kernels)
  _mobilediffusion_find_instruction_sets()
  get_property(isas GLOBAL PROPERTY MOBILEDIFFUSION_INSTRUCTION_SETS)
  list(LENGTH isas count)
  add_library(mobilediffusion_dispatch INTERFACE)
  target_compile_definitions(mobilediffusion_dispatch INTERFACE MOBILEDIFFUSION_DISPATCH=${count})
  _mobilediffusion_bodies_library(mobilediffusion_bodies_dispatch)
  target_link_libraries(mobilediffusion_dispatch INTERFACE mobilediffusion_bodies_dispatch mobilediffusion::mobilediffusion)
  foreach(isa IN LISTS isas)
    _mobilediffusion_set_library(${isa} ${count})
    target_link_libraries(mobilediffusion_dispatch INTERFACE mobilediffusion_kernels_${isa})
  endforeach()
endfunction()

# Makes all but the library's tables local.
function(_mobilediffusion_hide_symbols library isa)
  get_property(linker GLOBAL PROPERTY MOBILEDIFFUSION_LINKER)
  target_compile_options(${library} PRIVATE -fno-lto)  # bytecode has no symbols to hide
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${library} PRIVATE -fno-gnu-unique)  # objcopy leaves symbols of that kind global
  endif()
  # Groups are what the linker discards twice, by name: dissolved first. The type's name stays common, since some runtimes
  # catch an exception by its address; it is data.
  set(archive "$<TARGET_FILE:${library}>")
  add_custom_command(TARGET ${library} POST_BUILD
    COMMAND "${linker}" -r --force-group-allocation -o "${archive}.o" --whole-archive "${archive}"
    COMMAND "${CMAKE_OBJCOPY}" --keep-global-symbol=mobilediffusion_kernels_${isa}
      --keep-global-symbol=mobilediffusion_training_kernels_${isa} --keep-global-symbol=_ZTIN15mobilediffusion5ErrorE
      --keep-global-symbol=_ZTSN15mobilediffusion5ErrorE "${archive}.o"
    COMMAND "${CMAKE_COMMAND}" -E rm "${archive}"
    COMMAND "${CMAKE_AR}" qcs "${archive}" "${archive}.o"
    VERBATIM)
endfunction()

# A linker that dissolves groups, or nothing. With clang CMake prefers lld, which learned it in version 19.
function(_mobilediffusion_find_linker result)
  set(${result} "" PARENT_SCOPE)
  if(NOT CMAKE_EXECUTABLE_FORMAT STREQUAL "ELF" OR NOT CMAKE_OBJCOPY OR NOT CMAKE_AR)
    return()
  endif()
  find_program(MOBILEDIFFUSION_GNU_LINKER NAMES ${CMAKE_SYSTEM_PROCESSOR}-linux-gnu-ld.bfd ld.bfd ld)
  mark_as_advanced(MOBILEDIFFUSION_GNU_LINKER)
  foreach(linker IN LISTS CMAKE_LINKER MOBILEDIFFUSION_GNU_LINKER)
    execute_process(COMMAND "${linker}" --help OUTPUT_VARIABLE help ERROR_QUIET)
    if(help MATCHES "--force-group-allocation")
      set(${result} "${linker}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()
