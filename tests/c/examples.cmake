# SPDX-License-Identifier: Apache-2.0
# The examples of C and Python draw the same picture, and say what is wrong.
# DRAW: the program; PYTHON, or empty; LIBRARY, the shared one; EXAMPLES and OUT, folders.
file(REMOVE_RECURSE "${OUT}")
file(MAKE_DIRECTORY "${OUT}")
set(model "${EXAMPLES}/emoji_one_step.safetensors")

function(expect_failure words)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY "${OUT}" RESULT_VARIABLE status ERROR_VARIABLE text OUTPUT_QUIET)
  if(status EQUAL 0 OR NOT text MATCHES "${words}")
    message(FATAL_ERROR "expected '${words}', found status ${status}: ${text}")
  endif()
endfunction()

execute_process(COMMAND "${DRAW}" "${model}" "a red apple" 7 apple.ppm WORKING_DIRECTORY "${OUT}" OUTPUT_VARIABLE text
  COMMAND_ERROR_IS_FATAL ANY)
if(NOT text MATCHES "apple.ppm: emoji, 128 x 128, .* UNet [0-9.]+ ms")
  message(FATAL_ERROR "expected what was drawn, found ${text}")
endif()
expect_failure("draw: file \"nothing\": cannot open" "${DRAW}" nothing "a red apple" 7 apple.ppm)
expect_failure("draw: expected MODEL" "${DRAW}")

if(PYTHON)
  set(script "${EXAMPLES}/c/draw.py")
  execute_process(COMMAND "${PYTHON}" "${script}" "${LIBRARY}" "${model}" "a red apple" 7 apple.png WORKING_DIRECTORY "${OUT}"
    COMMAND_ERROR_IS_FATAL ANY)
  expect_failure("draw.py: file \"nothing\": cannot open" "${PYTHON}" "${script}" "${LIBRARY}" nothing "a red apple" 7 apple.png)
  # The picture of the one is in the other: a PNG's rows without a filter.
  execute_process(COMMAND "${PYTHON}" -c "
import struct, sys, zlib
png, ppm = open('apple.png', 'rb').read(), open('apple.ppm', 'rb').read()
at = png.index(b'IDAT')
rows = zlib.decompress(png[at + 4:at + 4 + struct.unpack('>I', png[at - 4:at])[0]])
pixels = b''.join(rows[385 * y + 1:385 * (y + 1)] for y in range(128))
sys.exit(0 if ppm == b'P6\\n128 128\\n255\\n' + pixels else 'apple.png: expected the picture of apple.ppm')
" WORKING_DIRECTORY "${OUT}" COMMAND_ERROR_IS_FATAL ANY)
endif()
