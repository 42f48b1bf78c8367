# SPDX-License-Identifier: Apache-2.0
# What generate refuses: 2 for wrong arguments, 1 for files and prompts, one line each, and nothing half written.
. "${0%/*}/cli_common.sh"
with() { wanted=$1 words=$2; shift 2; refused "$wanted" "$words" "$generate" --model "$model" "$@"; }

# Arguments.
refused 2 'generate: a prompt, or --prompts FILE' "$generate"
with 2 '--sed' "a cat" --sed 7
with 2 '--seed: expected a whole number of 0 to 18446744073709551615, found "seven"' "a cat" --seed seven
for bad in -1 1.5 18446744073709551616 0x10 "" " 1"; do with 2 '--seed: expected a whole number' "a cat" --seed "$bad"; done
for bad in 0 1001 many 1e2; do with 2 '--steps: expected a whole number of 1 to 1000' "a cat" --steps "$bad"; done
for bad in -1 -0.001 nan inf 1e99 "" "1 " two; do with 2 '--guidance: expected a number of at least 0' "a cat" --guidance "$bad"; done
for bad in 0 -3 10001 x; do with 2 '--count: expected a whole number of 1 to 10000' "a cat" --count "$bad"; done
with 2 '--threads: expected a whole number of 0 to 1024, found "2000"' "a cat" --threads 2000
with 2 '--output' "a cat" --output
with 2 '--seed: expected a whole number' "a cat" --seed 'a
b'

# Prompts.
with 1 'prompt: expected words, found none' ""
with 1 'prompt: expected words, found none' "  "
with 1 'argument 2: prompt: expected words, found none' "a cat" " "
with 1 'prompt: not UTF-8 at byte 2' "$(printf 'a \377')"
with 1 'negative prompt: expected words' "a cat" --negative " "
with 1 'negative prompt: not UTF-8' "a cat" --negative "$(printf '\377')"
printf 'a cat\n\na \377 cat\n' > prompts.txt
with 1 'file "prompts.txt": line 3: prompt: not UTF-8 at byte 2' --prompts prompts.txt
printf 'a\0cat\n' > prompts.txt
with 1 'file "prompts.txt": line 1: prompt: expected text, found a zero byte' --prompts prompts.txt
printf '\n \n' > prompts.txt
with 1 'file "prompts.txt": expected a prompt a line, found none' --prompts prompts.txt
awk 'BEGIN { for (i = 0; i < 70000; ++i) printf "a"; print "" }' > prompts.txt
with 1 'file "prompts.txt": line 1: prompt: 70000 bytes, at most 65536 are accepted' --prompts prompts.txt
with 1 'standard input: expected a prompt a line, found none' --prompts -
with 1 'it does not say what it knows' --words
with 1 'file "nothing.txt": cannot open' --prompts nothing.txt
with 1 'file ".": cannot' --prompts .

# Outputs: known before the model is read.
mkdir folder folder/is-folder.png
with 1 'output "nowhere": expected an existing folder, the name of a .png file, or - for a pipe' "a cat" -o nowhere
with 1 'output "a.jpg": expected an existing folder, the name of a .png file, or - for a pipe' "a cat" -o a.jpg
with 1 'output "nowhere/a.png": expected an existing folder "nowhere", found none' "a cat" -o nowhere/a.png
with 1 'output "a.png": expected an existing folder for 2 pictures, found none' "a cat" -o a.png --count 2
echo old > old.png
with 1 'output "old.png": expected an existing folder for 2 pictures, found a file' "a cat" "a dog" -o old.png
with 1 'output "-": expected an existing folder for 2 pictures, found none' "a cat" -o - --count 2
if [ "$(id -u)" -ne 0 ]; then
  mkdir locked
  chmod 555 locked
  with 1 'output "locked": cannot write into this folder' "a cat" -o locked
  with 1 'output "locked": cannot write into this folder' "a cat" -o locked/a.png
fi
[ "$(cat old.png)" = old ] || fail "expected old.png to stay"

# A disk that is full, as a limit on the size of files.
limited() {
  (
    ulimit -f 1
    "$generate" --model "$model" --steps 1 --quiet "a cat" -o old.png 2>&1 > /dev/null | cat
  ) > err
  : > out
  command="a full disk"
  [ "$(wc -l < err)" -eq 1 ] || fail "expected one line"
  grep -q -F 'file "old.png": cannot write: File too large' err || fail "expected the reason"
  [ "$(cat old.png)" = old ] || fail "expected old.png to stay"
  ls -A | grep -q tmp && fail "expected no temporary file"
}
limited
# A reader that goes away.
{ "$generate" --model "$model" --steps 1 "a cat" -o - 2> err; echo $? > status; } | true
: > out
[ "$(cat status)" = 1 ] && [ "$(cat err)" = "generate: standard output: cannot write: Broken pipe" ] || fail "expected a broken pipe"
if [ -w /dev/full ]; then
  "$generate" --model "$model" --steps 1 "a cat" -o kept.png > /dev/full 2> err
  status=$?
  : > out
  [ "$status" -eq 1 ] || fail "status $status, expected 1 where stdout is full"
  grep -q 'generate: standard output: cannot write' err || fail "expected the reason where stdout is full"
fi

# Models.
refused 1 'file "missing.safetensors": cannot open' "$generate" --model missing.safetensors "a cat"
refused 1 'file "folder": cannot open: it is not a regular file' "$generate" --model folder "a cat"
for kind in $("$files" kinds); do
  "$files" wrong "$kind" "$model" wrong.safetensors || fail "cannot make the file $kind"
  refused 1 'wrong.safetensors' "$generate" --model wrong.safetensors "a cat"
  grep -q '^generate: file ' err || fail "expected the file's name first: $kind"
done
finish
