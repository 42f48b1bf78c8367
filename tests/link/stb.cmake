# SPDX-License-Identifier: Apache-2.0
# Users with an stb of their own compile without a warning, link and run.
# COMPILER; INCLUDES, separated by |; SOURCES and OUT, directories.
string(REPLACE "|" ";" options "${INCLUDES}")
list(TRANSFORM options PREPEND "-I")
list(PREPEND options -std=c++20 -O0 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wold-style-cast -Werror)
file(MAKE_DIRECTORY "${OUT}")

function(build out)
  execute_process(COMMAND "${COMPILER}" ${options} ${ARGN} "${SOURCES}/stb.cpp" -o "${OUT}/${out}" COMMAND_ERROR_IS_FATAL ANY)
endfunction()
function(build_and_run)
  build(stb ${ARGN})
  execute_process(COMMAND "${OUT}/stb" COMMAND_ERROR_IS_FATAL ANY)
endfunction()

build_and_run(-DSTB=1)
build_and_run(-DSTB=2 -DSTB_IMAGE_STATIC -DSTB_IMAGE_WRITE_STATIC)
build_and_run(-DSTB=3)
build(stb_other.o -c -DSTB=5)
build_and_run(-DSTB=4 "${OUT}/stb_other.o")
