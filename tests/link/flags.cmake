# SPDX-License-Identifier: Apache-2.0
# Two translation units with different -march: where they share nothing of the library's, each computes right with its own kernels; where
# they share a type, they do not link, and the linker says which instruction set it misses.
# COMPILER; INCLUDES, separated by |; SOURCES and OUT, directories.
string(REPLACE "|" ";" options "${INCLUDES}")
list(TRANSFORM options PREPEND "-I")
list(PREPEND options -std=c++20 -O0)  # -O0: functions that are inlined could not be mixed up
file(MAKE_DIRECTORY "${OUT}")

function(compile unit march object)
  execute_process(COMMAND "${COMPILER}" ${options} ${ARGN} -march=${march} -c "${SOURCES}/flags_${unit}.cpp" -o "${OUT}/${object}"
    COMMAND_ERROR_IS_FATAL ANY)
endfunction()

compile(main x86-64-v2 main.o)
compile(other x86-64-v3 other.o)
foreach(order IN ITEMS "main.o;other.o" "other.o;main.o")  # the linker keeps the first of two equal names
  list(TRANSFORM order PREPEND "${OUT}/")
  execute_process(COMMAND "${COMPILER}" ${order} -o "${OUT}/apart" COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND "${OUT}/apart" RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${order}: expected right sums, each by the kernels of its own unit, found status ${result}")
  endif()
endforeach()

compile(main x86-64-v2 main_shared.o -DSHARED)
compile(other x86-64-v3 other_shared.o -DSHARED)
compile(other x86-64-v2 other_equal.o -DSHARED)
execute_process(COMMAND "${COMPILER}" "${OUT}/main_shared.o" "${OUT}/other_equal.o" -o "${OUT}/equal" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${COMPILER}" "${OUT}/main_shared.o" "${OUT}/other_shared.o" -o "${OUT}/shared"
  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(result EQUAL 0)
  message(FATAL_ERROR "units of two instruction sets share an Executor: expected that they do not link, but they did")
endif()
foreach(name IN ITEMS other_executor other_takes)
  if(NOT output MATCHES "${name}[^\n]*sse4_2")
    message(FATAL_ERROR "expected '${name}' of sse4_2 to be missing, found\n${output}")
  endif()
endforeach()
