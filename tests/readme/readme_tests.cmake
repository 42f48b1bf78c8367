# SPDX-License-Identifier: Apache-2.0
# What the READMEs say holds: their C++ compiles, their CMake configures, their commands run, their links lead somewhere.
#
#   ```cpp    a program; or, where the first line begins with one of the words below, declarations; else statements
#   ```cmake  what follows project() in a project with main.cpp beside it, and this repository in the folder mobilediffusion
#   ```sh     commands.sh says what is run
include("${CMAKE_CURRENT_LIST_DIR}/blocks.cmake")
set(declares "^(constexpr|inline|template|struct|class|enum|using|namespace|static_assert|#include)[ (]")

set(readmes "${PROJECT_SOURCE_DIR}/README.md")
foreach(folder IN ITEMS bench cmake examples include tests)
  file(GLOB_RECURSE found CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${folder}/README.md")
  list(APPEND readmes ${found})
endforeach()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${readmes})
set(folder "${CMAKE_CURRENT_BINARY_DIR}/readme")

# All fragments are one unit, each in a namespace of its own. Programs stand alone.
set(fragments "")
set(includes "#include <mobilediffusion/mobilediffusion.hpp>\n")
set(programs "")
set(projects "")
foreach(readme IN LISTS readmes)
  cmake_path(RELATIVE_PATH readme BASE_DIRECTORY "${PROJECT_SOURCE_DIR}" OUTPUT_VARIABLE name)
  string(MAKE_C_IDENTIFIER "${name}" id)
  readme_blocks("${readme}" cpp)
  foreach(i RANGE ${readme_count})
    if(i EQUAL readme_count)
      break()
    endif()
    set(code "${readme_block_${i}}")
    set(from "#line ${readme_line_${i}} \"${name}\"\n")
    if(code MATCHES "int main\\(")
      readme_write("${folder}/${id}_${i}.cpp" "${from}${code}")
      list(APPEND programs "${id}_${i}")
      continue()
    endif()
    string(REGEX MATCHALL "#include [^\n]+\n" own "${code}")
    string(REPLACE ";" "" own "${own}")
    string(APPEND includes "${own}")
    if(code MATCHES "${declares}")
      string(REGEX REPLACE "#include [^\n]+" "" code "${code}")
      string(APPEND fragments "\nnamespace ${id}_${i} {\n${from}${code}}\n")
    else()
      string(APPEND fragments "\nnamespace ${id}_${i} {\nvoid statements() {\n${from}${code}}\n}\n")
    endif()
  endforeach()

  readme_blocks("${readme}" cmake)
  foreach(i RANGE ${readme_count})
    if(i EQUAL readme_count)
      break()
    endif()
    readme_write("${folder}/${id}_${i}/CMakeLists.txt"
      "cmake_minimum_required(VERSION 3.22)\nproject(app LANGUAGES CXX)\n${readme_block_${i}}")
    readme_write("${folder}/${id}_${i}/main.cpp" "int main() {}\n")
    list(APPEND projects "${id}_${i}")
  endforeach()
endforeach()

readme_write("${folder}/fragments.cpp" "${includes}\nnamespace md = mobilediffusion;\n${fragments}")
if(TARGET mobilediffusion::pictures)  # some of them read pictures
  add_test(NAME readme.code
    COMMAND ${CMAKE_CXX_COMPILER} -std=c++20 -fsyntax-only -DMOBILEDIFFUSION_DISPATCH=1 "-I${include_dir}"
      "${folder}/fragments.cpp")
endif()
set(targets "")
foreach(program IN LISTS programs)
  add_executable(readme_${program} EXCLUDE_FROM_ALL "${folder}/${program}.cpp")
  target_link_libraries(readme_${program} PRIVATE mobilediffusion_program)
  target_compile_options(readme_${program} PRIVATE -O0)
  list(APPEND targets readme_${program})
endforeach()
add_test(NAME readme.programs
  COMMAND ${CMAKE_COMMAND} --build "${PROJECT_BINARY_DIR}" --config $<CONFIG> --target ${targets})
set_tests_properties(readme.programs PROPERTIES RESOURCE_LOCK build_directory FIXTURES_SETUP readme_programs)

# The ten lines draw what they say, where the model is.
add_test(NAME readme.ten_lines
  COMMAND ${CMAKE_COMMAND} -D PROGRAM=$<TARGET_FILE:readme_README_md_0> -D ROOT=${PROJECT_SOURCE_DIR} -D FOLDER=${folder}/ten_lines
    -P "${CMAKE_CURRENT_LIST_DIR}/ten_lines.cmake")
set_tests_properties(readme.ten_lines PROPERTIES FIXTURES_REQUIRED readme_programs)

add_test(NAME readme.form
  COMMAND ${CMAKE_COMMAND} -D ROOT=${PROJECT_SOURCE_DIR} "-D READMES=${readmes}" -P "${CMAKE_CURRENT_LIST_DIR}/form.cmake")

if(MOBILEDIFFUSION_INSTALL)
  foreach(project IN LISTS projects)
    file(CREATE_LINK "${PROJECT_SOURCE_DIR}" "${folder}/${project}/mobilediffusion" SYMBOLIC)
    add_test(NAME readme.cmake.${project}
      COMMAND ${CMAKE_COMMAND} -G "${CMAKE_GENERATOR}" -S "${folder}/${project}" -B "${folder}/${project}/build" ${consumer_options}
        "-Dmobilediffusion_ROOT=${prefix}" "-DFETCHCONTENT_SOURCE_DIR_MOBILEDIFFUSION=${PROJECT_SOURCE_DIR}")
    set_tests_properties(readme.cmake.${project} PROPERTIES FIXTURES_REQUIRED install)
  endforeach()
endif()

find_program(MOBILEDIFFUSION_BASH bash)
mark_as_advanced(MOBILEDIFFUSION_BASH)
if(MOBILEDIFFUSION_BASH AND TARGET generate)
  foreach(readme IN LISTS readmes)
    cmake_path(RELATIVE_PATH readme BASE_DIRECTORY "${PROJECT_SOURCE_DIR}" OUTPUT_VARIABLE name)
    string(MAKE_C_IDENTIFIER "${name}" id)
    add_test(NAME readme.commands.${id}
      COMMAND ${MOBILEDIFFUSION_BASH} "${CMAKE_CURRENT_LIST_DIR}/commands.sh" "${name}" "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}")
  endforeach()
endif()
