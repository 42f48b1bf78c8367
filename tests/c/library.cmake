# SPDX-License-Identifier: Apache-2.0
# The shared library exports what the header declares and nothing else, and is as small as promised.
# NM, STRIP: tools; SHARED: the library; HEADER; BUILD_TYPE; SETS: how many instruction sets it has kernels for; OUT: a folder.
file(STRINGS "${HEADER}" lines)
string(REGEX MATCHALL "MOBILEDIFFUSION_API [a-z][^;(]*\\(" declared "${lines}")
list(TRANSFORM declared REPLACE ".*[ *]([a-z_]+)\\($" "\\1")
list(SORT declared)
execute_process(COMMAND "${NM}" -D --defined-only "${SHARED}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "\n$" "" symbols "${symbols}")
string(REPLACE "\n" ";" symbols "${symbols}")
list(FILTER symbols EXCLUDE REGEX " A ")  # the version itself
list(TRANSFORM symbols REPLACE "^[0-9a-f]+ [A-Za-z] ([^@]*).*" "\\1")
list(SORT symbols)
list(LENGTH declared count)
if(count LESS 20 OR NOT declared STREQUAL symbols)
  message(FATAL_ERROR "expected what the header declares:\n${declared}\nfound:\n${symbols}")
endif()

if(BUILD_TYPE STREQUAL "Release")
  file(MAKE_DIRECTORY "${OUT}")
  execute_process(COMMAND "${STRIP}" -o "${OUT}/stripped.so" "${SHARED}" COMMAND_ERROR_IS_FATAL ANY)
  file(SIZE "${OUT}/stripped.so" size)
  set(most 1500000)
  if(SETS GREATER 3)
    set(most 2800000)
  endif()
  message(STATUS "${size} bytes, ${SETS} instruction sets")
  if(size GREATER most)
    message(FATAL_ERROR "expected at most ${most} bytes, found ${size}")
  endif()
endif()

# Nothing in it trains.
execute_process(COMMAND "${NM}" --defined-only "${SHARED}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCH "7kernels[A-Za-z0-9_]*_backward|mobilediffusion_training_kernels" training "${symbols}")
if(training)
  message(FATAL_ERROR "expected no kernel of training, found one: ...${training}")
endif()
