# SPDX-License-Identifier: Apache-2.0
# Each of the comma-separated LIBRARIES defines its tables and the names of the exception's type for others, and nothing else.
string(REPLACE "," ";" libraries "${LIBRARIES}")
foreach(library IN LISTS libraries)
  execute_process(COMMAND "${NM}" --defined-only "${library}" OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[0-9a-f]+ [A-Zuvw] [^\n]+" common "${text}")  # small letters are local, but for these
  set(tables 0)
  foreach(symbol IN LISTS common)
    string(REGEX REPLACE "^[0-9a-f]+ [A-Za-z] " "" name "${symbol}")
    if(name MATCHES "^mobilediffusion_(training_)?kernels_[a-z0-9_]+$")
      math(EXPR tables "${tables} + 1")
    elseif(NOT name MATCHES "^_ZT[IS]N15mobilediffusion5ErrorE$")
      message(SEND_ERROR "${library}: expected no symbol that another library may replace, found ${symbol}")
    endif()
  endforeach()
  if(NOT tables EQUAL 2)
    message(SEND_ERROR "${library}: expected two tables, found ${tables}")
  endif()
endforeach()
