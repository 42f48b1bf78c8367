# SPDX-License-Identifier: Apache-2.0
# The kernels' tests: one program with kernels built once per instruction set, run once for each. Under a sanitizer one set is
# enough: the kernels of all take minutes to compile then.
file(GLOB kernel_sources CONFIGURE_DEPENDS "kernels/test_*.cpp" "simd/test_*.cpp")
add_executable(tests_kernels ${kernel_sources} $<TARGET_OBJECTS:tests_main>)
target_include_directories(tests_kernels PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
target_compile_options(tests_kernels PRIVATE "$<$<CONFIG:Release>:-O1>")
target_precompile_headers(tests_kernels PRIVATE catch.hpp)
target_link_libraries(tests_kernels PRIVATE ${catch_library})
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
  target_link_libraries(tests_kernels PRIVATE mobilediffusion_program)
  add_test(NAME kernels COMMAND tests_kernels)
  return()
endif()
file(GLOB dispatch_sources CONFIGURE_DEPENDS "dispatch/test_*.cpp")
target_sources(tests_kernels PRIVATE ${dispatch_sources})
target_compile_options(tests_kernels PRIVATE -Wall -Wextra -Werror=switch)  # not this machine's instruction set
mobilediffusion_dispatch(tests_kernels)

set(missing "MOBILEDIFFUSION_ISA: expected one that this machine runs")  # then it was not this machine's turn
add_test(NAME dispatch.chosen COMMAND tests_kernels "[dispatch]")
set(archives "")
get_property(isas GLOBAL PROPERTY MOBILEDIFFUSION_INSTRUCTION_SETS)
list(LENGTH isas count)
if(count GREATER 1)
  foreach(isa IN LISTS isas)
    add_test(NAME dispatch.${isa} COMMAND tests_kernels)
    set_tests_properties(dispatch.${isa} PROPERTIES SKIP_REGULAR_EXPRESSION "${missing}"
      ENVIRONMENT MOBILEDIFFUSION_ISA=${isa})
    list(APPEND archives "$<TARGET_FILE:mobilediffusion_kernels_${isa}>")
  endforeach()
  # Few machines have AMX: the same program with kernels for it whose tiles are computed by portable code, in the place of those
  # of avx512_bf16_vnni (simd/tiles.hpp).
  if(TARGET mobilediffusion_kernels_amx)
    set(isa avx512_bf16_vnni)
    get_property(flags GLOBAL PROPERTY MOBILEDIFFUSION_FLAGS_${isa})
    _mobilediffusion_kernel_library(tests_amx_stand_in ${isa} ${count})
    target_compile_options(tests_amx_stand_in PRIVATE ${flags} -DMOBILEDIFFUSION_AMX_STAND_IN)
    _mobilediffusion_hide_symbols(tests_amx_stand_in ${isa})
    add_executable(tests_kernels_amx $<TARGET_OBJECTS:tests_kernels> $<TARGET_OBJECTS:tests_main>)
    target_link_libraries(tests_kernels_amx PRIVATE ${catch_library} tests_amx_stand_in mobilediffusion_dispatch)
    add_test(NAME dispatch.amx_stand_in COMMAND tests_kernels_amx)
    set_tests_properties(dispatch.amx_stand_in PROPERTIES SKIP_REGULAR_EXPRESSION "${missing}"
      ENVIRONMENT MOBILEDIFFUSION_ISA=${isa})
    # And the instructions themselves, emulated where they are missing.
    if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
      add_executable(tests_amx_instructions simd/test_tiles.cpp simd/amx_emulator.cpp $<TARGET_OBJECTS:tests_main>)
      target_include_directories(tests_amx_instructions PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
      target_compile_definitions(tests_amx_instructions PRIVATE TESTS_AMX_INSTRUCTIONS)
      target_link_libraries(tests_amx_instructions PRIVATE ${catch_library} mobilediffusion::mobilediffusion)
      add_test(NAME dispatch.amx_instructions COMMAND tests_amx_instructions)
    endif()
  endif()
else()
  add_test(NAME kernels COMMAND tests_kernels)
endif()

if(count GREATER 1 AND CMAKE_NM)
  string(REPLACE ";" "," archives "${archives}")
  add_test(NAME dispatch.symbols
    COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D LIBRARIES=${archives} -P "${CMAKE_CURRENT_SOURCE_DIR}/dispatch/symbols.cmake")
endif()

# On an emulated processor without AVX, whatever this one has: a stray instruction ends the program.
find_program(MOBILEDIFFUSION_QEMU qemu-x86_64)
mark_as_advanced(MOBILEDIFFUSION_QEMU)
if(count GREATER 1 AND MOBILEDIFFUSION_QEMU)
  add_test(NAME dispatch.without_avx
    COMMAND ${MOBILEDIFFUSION_QEMU} -cpu Nehalem $<TARGET_FILE:tests_kernels> "~[matmul]~[conv2d]")
endif()
