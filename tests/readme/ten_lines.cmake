# SPDX-License-Identifier: Apache-2.0
# Runs PROGRAM in FOLDER beside the shipped model: apple.png must appear, and be a picture.
file(REMOVE_RECURSE "${FOLDER}")
file(MAKE_DIRECTORY "${FOLDER}")
file(CREATE_LINK "${ROOT}/examples/emoji_one_step.safetensors" "${FOLDER}/emoji_one_step.safetensors" COPY_ON_ERROR SYMBOLIC)
execute_process(COMMAND "${PROGRAM}" WORKING_DIRECTORY "${FOLDER}" COMMAND_ERROR_IS_FATAL ANY)
file(READ "${FOLDER}/apple.png" start LIMIT 24 HEX)
if(NOT start STREQUAL "89504e470d0a1a0a0000000d494844520000008000000080")
  message(FATAL_ERROR "apple.png: expected a PNG file of 128 x 128 pixels, found ${start}")
endif()
