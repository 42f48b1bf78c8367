# SPDX-License-Identifier: Apache-2.0
# The example programs as a user of a shell meets them.
if(TARGET generate AND UNIX AND TARGET mobilediffusion::pictures)
  add_executable(cli_files "${CMAKE_CURRENT_LIST_DIR}/cli_files.cpp")
  target_include_directories(cli_files PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/examples")
  target_link_libraries(cli_files PRIVATE mobilediffusion_program)
  target_compile_options(cli_files PRIVATE -O1)  # little to compute

  add_test(NAME cli.model COMMAND cli_files model "${CMAKE_CURRENT_BINARY_DIR}/cli_random.safetensors")
  set_tests_properties(cli.model PROPERTIES FIXTURES_SETUP cli_model)
  set_target_properties(text_to_image_toy PROPERTIES EXCLUDE_FROM_ALL OFF)
  foreach(script IN ITEMS generate errors edit inspect text_to_image)
    add_test(NAME cli.${script}
      COMMAND sh "${CMAKE_CURRENT_LIST_DIR}/cli_${script}.sh" $<TARGET_FILE_DIR:generate> $<TARGET_FILE:cli_files>
        "${CMAKE_CURRENT_BINARY_DIR}/cli_random.safetensors")
    set_tests_properties(cli.${script} PROPERTIES FIXTURES_REQUIRED cli_model)
  endforeach()
endif()
