# SPDX-License-Identifier: Apache-2.0
# The C interface, by a compiler of C with its strictest warnings; its examples; what the libraries export and how large they are.
if(NOT TARGET mobilediffusion_c OR NOT TARGET mobilediffusion_c_static OR NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang" OR NOT UNIX)
  return()
endif()
enable_language(C)
find_package(Threads REQUIRED)
set(strict -Wall -Wextra -Wpedantic -Werror)
set(model "${PROJECT_SOURCE_DIR}/examples/emoji_one_step.safetensors")

add_executable(tests_c c/test_c_api.c)
add_executable(tests_c_draw ../examples/c/draw.c)
foreach(program IN ITEMS tests_c tests_c_draw)
  set_target_properties(${program} PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
  target_compile_options(${program} PRIVATE ${strict})
endforeach()
target_compile_definitions(tests_c PRIVATE TEST_PROJECT_VERSION="${PROJECT_VERSION}")
target_link_libraries(tests_c PRIVATE mobilediffusion::c Threads::Threads)
target_link_libraries(tests_c_draw PRIVATE mobilediffusion::c_static)
set_target_properties(tests_c_draw PROPERTIES LINKER_LANGUAGE CXX)
add_test(NAME c.api COMMAND tests_c "${model}" "${CMAKE_CURRENT_BINARY_DIR}/c_scratch")

get_property(c_sets GLOBAL PROPERTY MOBILEDIFFUSION_C_SETS)

# Both in one process: the C++ one by the same kernels.
add_executable(tests_c_same_bytes c/same_bytes.cpp)
target_link_libraries(tests_c_same_bytes PRIVATE mobilediffusion::c)
target_compile_options(tests_c_same_bytes PRIVATE -Wall -Wextra "$<$<CONFIG:Release>:-O1>")
if(c_sets GREATER 1)
  mobilediffusion_dispatch(tests_c_same_bytes)
else()
  target_link_libraries(tests_c_same_bytes PRIVATE mobilediffusion::mobilediffusion)
endif()
add_test(NAME c.same_bytes COMMAND tests_c_same_bytes "${model}")

# Of several presets, small ones: the unit itself is compiled here.
add_executable(tests_c_presets c/presets.cpp $<TARGET_OBJECTS:tests_main>)
target_include_directories(tests_c_presets PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
target_compile_options(tests_c_presets PRIVATE "$<$<CONFIG:Release>:-O0>" -Wno-subobject-linkage)
target_link_libraries(tests_c_presets PRIVATE mobilediffusion_program ${catch_library})
add_test(NAME c.presets COMMAND tests_c_presets)

# The examples: a program by the static library, a script by the shared one. They draw the same picture.
find_program(MOBILEDIFFUSION_PYTHON python3)
mark_as_advanced(MOBILEDIFFUSION_PYTHON)
set(python "")
if(MOBILEDIFFUSION_PYTHON AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
  set(python "${MOBILEDIFFUSION_PYTHON}")
endif()
add_test(NAME c.examples
  COMMAND ${CMAKE_COMMAND} -D "DRAW=$<TARGET_FILE:tests_c_draw>" -D "PYTHON=${python}" -D "LIBRARY=$<TARGET_FILE:mobilediffusion_c>"
    -D "EXAMPLES=${PROJECT_SOURCE_DIR}/examples" -D "OUT=${CMAKE_CURRENT_BINARY_DIR}/c_examples"
    -P "${CMAKE_CURRENT_SOURCE_DIR}/c/examples.cmake")

# The header alone, as C and as C++.
foreach(dialect IN ITEMS c99 c17)
  add_test(NAME c.header.${dialect} COMMAND ${CMAKE_C_COMPILER} -std=${dialect} ${strict} -fsyntax-only "-I${PROJECT_SOURCE_DIR}/include"
    -include mobilediffusion/c_api.h -x c "${CMAKE_CURRENT_SOURCE_DIR}/c/empty.c")
endforeach()
add_test(NAME c.header.c++ COMMAND ${CMAKE_CXX_COMPILER} -std=c++11 ${strict} -fsyntax-only "-I${PROJECT_SOURCE_DIR}/include"
  -include mobilediffusion/c_api.h -x c++ "${CMAKE_CURRENT_SOURCE_DIR}/c/empty.c")

if(CMAKE_NM AND CMAKE_STRIP AND CMAKE_EXECUTABLE_FORMAT STREQUAL "ELF" AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
  add_test(NAME c.library
    COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D STRIP=${CMAKE_STRIP} -D "SHARED=$<TARGET_FILE:mobilediffusion_c>"
      -D "HEADER=${PROJECT_SOURCE_DIR}/include/mobilediffusion/c_api.h" -D BUILD_TYPE=$<CONFIG> -D SETS=${c_sets}
      -D "OUT=${CMAKE_CURRENT_BINARY_DIR}/c_library" -P "${CMAKE_CURRENT_SOURCE_DIR}/c/library.cmake")
endif()

# Installed, for a project in C alone, and for pkg-config.
if(MOBILEDIFFUSION_INSTALL)
  add_test(NAME c.find_package
    COMMAND ${CMAKE_CTEST_COMMAND} --build-and-test "${PROJECT_SOURCE_DIR}/examples/c" "${CMAKE_CURRENT_BINARY_DIR}/c_find_package"
      --build-generator ${CMAKE_GENERATOR} --build-options "-DCMAKE_C_COMPILER=${CMAKE_C_COMPILER}" "-Dmobilediffusion_c_ROOT=${prefix}"
      --test-command draw "${model}" "a red apple" 7 apple.ppm)
  set_tests_properties(c.find_package PROPERTIES FIXTURES_REQUIRED install)
  if(MOBILEDIFFUSION_PKG_CONFIG)
    add_test(NAME c.pkg_config
      COMMAND sh -c "export PKG_CONFIG_PATH=$1/${CMAKE_INSTALL_LIBDIR}/pkgconfig && $0 -std=c99 $2/draw.c $(pkg-config --cflags --libs mobilediffusion_c) -Wl,-rpath,$1/${CMAKE_INSTALL_LIBDIR} -o $1/draw && $1/draw $3 'a red apple' 7 $1/apple.ppm && $0 -std=c99 $2/draw.c $(pkg-config --cflags mobilediffusion_c) $1/${CMAKE_INSTALL_LIBDIR}/libmobilediffusion.a $(pkg-config --static --libs mobilediffusion_c | sed s/-lmobilediffusion//) -o $1/draw && $1/draw $3 'a red apple' 7 $1/apple.ppm"
        "${CMAKE_C_COMPILER}" "${prefix}" "${PROJECT_SOURCE_DIR}/examples/c" "${model}")
    set_tests_properties(c.pkg_config PROPERTIES FIXTURES_REQUIRED install)
  endif()
endif()

# The functions of Android's example in a Java machine, where there is one.
find_package(Java QUIET COMPONENTS Development)
set(jni "")
if(Java_FOUND)
  file(REAL_PATH "${Java_JAVAC_EXECUTABLE}" jni)
  cmake_path(SET jni NORMALIZE "${jni}/../../include")
endif()
if(EXISTS "${jni}/linux/jni_md.h" AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
  add_library(tests_c_jni MODULE ../examples/android/mobilediffusion_jni.c)
  set_target_properties(tests_c_jni PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
  target_compile_options(tests_c_jni PRIVATE ${strict})
  target_include_directories(tests_c_jni SYSTEM PRIVATE "${jni}" "${jni}/linux")
  target_link_libraries(tests_c_jni PRIVATE mobilediffusion::c)
  add_test(NAME c.jni
    COMMAND sh -c "mkdir -p $1 && \"$2\" -d $1 $3 && $4 $5 'a red apple' 7 $1/apple.ppm && \"$6\" -Xcheck:jni -Dlibrary=$7 -cp $1 org.mobilediffusion.TestJni $5 $1/apple.ppm"
      sh "${CMAKE_CURRENT_BINARY_DIR}/c_jni" "${Java_JAVAC_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/c/TestJni.java"
      "$<TARGET_FILE:tests_c_draw>" "${model}" "${Java_JAVA_EXECUTABLE}" "$<TARGET_FILE:tests_c_jni>")
endif()
