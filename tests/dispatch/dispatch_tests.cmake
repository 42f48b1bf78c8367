# SPDX-License-Identifier: Apache-2.0
# The kernels' tests again, with kernels that were built once per instruction set: one program, run once for each.
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=")  # the kernels of AVX-512 alone take minutes then; the other tests check their memory
  return()
endif()
file(GLOB sources CONFIGURE_DEPENDS "dispatch/test_*.cpp" "kernels/test_*.cpp")
add_executable(tests_dispatch ${sources} $<TARGET_OBJECTS:tests_main>)
target_include_directories(tests_dispatch PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
target_compile_options(tests_dispatch PRIVATE -Wall -Wextra -Werror=switch)
target_precompile_headers(tests_dispatch PRIVATE catch.hpp)
target_link_libraries(tests_dispatch PRIVATE ${catch_library})
mobilediffusion_dispatch(tests_dispatch)

set(missing "MOBILEDIFFUSION_ISA: expected one that this machine runs")  # then it was not this machine's turn
add_test(NAME dispatch.chosen COMMAND tests_dispatch "[dispatch]")
set(archives "")
foreach(isa IN ITEMS baseline avx2 avx512 avx512_bf16_vnni)
  if(TARGET mobilediffusion_kernels_${isa})
    add_test(NAME dispatch.${isa} COMMAND tests_dispatch)
    set_tests_properties(dispatch.${isa} PROPERTIES SKIP_REGULAR_EXPRESSION "${missing}"
      ENVIRONMENT MOBILEDIFFUSION_ISA=${isa})
    list(APPEND archives "$<TARGET_FILE:mobilediffusion_kernels_${isa}>")
  endif()
endforeach()

list(LENGTH archives count)
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
    COMMAND ${MOBILEDIFFUSION_QEMU} -cpu Nehalem $<TARGET_FILE:tests_dispatch> "~[matmul]~[conv2d]")
endif()
