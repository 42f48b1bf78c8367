# SPDX-License-Identifier: Apache-2.0
# Compiles SOURCE, which says in a line "// expect: text" what the error must say, or "// expect: no error".
file(STRINGS "${SOURCE}" expect REGEX "^// expect: " LIMIT_COUNT 1)
string(REGEX REPLACE "^// expect: " "" expect "${expect}")
string(REPLACE "\\;" ";" expect "${expect}")  # file(STRINGS) made a list of it
if(expect STREQUAL "")
  message(FATAL_ERROR "${SOURCE}: expected a line '// expect: text', found none")
endif()

string(REPLACE "|" ";" include_dirs "${INCLUDES}")
list(TRANSFORM include_dirs PREPEND "-I")
execute_process(COMMAND "${COMPILER}" -std=c++20 -fsyntax-only ${include_dirs} "${SOURCE}"
  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)

if(expect STREQUAL "no error")
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${SOURCE}: expected to compile, found\n${output}")
  endif()
elseif(result EQUAL 0)
  message(FATAL_ERROR "${SOURCE}: expected an error with '${expect}', but it compiled")
else()
  string(FIND "${output}" "${expect}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${SOURCE}: expected an error with '${expect}', found\n${output}")
  endif()
endif()
