# SPDX-License-Identifier: Apache-2.0
# Sourced by the command-line tests. Arguments: the folder of the programs, cli_files, a model with random weights.
set -u
export LC_ALL=C.UTF-8
generate=$1/generate inspect=$1/inspect quantize=$1/quantize files=$2 model=$3
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work" || exit 1
failures=0

fail() {
  printf 'FAILED: %s\n' "$*"
  sed 's/^/  stdout: /' out
  sed 's/^/  stderr: /' err
  failures=$((failures + 1))
}
# run <status> <command...>: keeps its output in out and err.
run() {
  expected=$1
  shift
  command="$*"
  "$@" > out 2> err < /dev/null
  status=$?
  [ "$status" -eq "$expected" ] || fail "status $status, expected $expected: $command"
}
# refused <status> <words> <command...>: fails with one line on stderr that holds the words, and leaves no new file.
refused() {
  wanted=$1 words=$2
  shift 2
  before=$(ls -A | grep -v -x -e out -e err)
  run "$wanted" "$@"
  [ "$(wc -l < err)" -eq 1 ] || fail "expected one line on stderr: $command"
  grep -q -F -e "$words" err || fail "expected '$words' on stderr: $command"
  [ ! -s out ] || fail "expected nothing on stdout: $command"
  [ "$before" = "$(ls -A | grep -v -x -e out -e err)" ] || fail "expected no new file: $command"
}
exists() { for f in "$@"; do [ -s "$f" ] || fail "expected the file $f after: $command"; done; }
says() { grep -q -e "$1" out || fail "expected '$1' on stdout: $command"; }
silent() { [ ! -s out ] && [ ! -s err ] || fail "expected silence: $command"; }
count() { [ "$(ls | grep -c "$1")" -eq "$2" ] || fail "expected $2 files $1 after: $command"; }
# has <picture> <line>: a text of the PNG file.
has() { "$files" text "$1" | grep -q -x -F -e "$2" || fail "expected '$2' in the texts of $1: $command"; }
finish() {
  [ "$failures" -eq 0 ] || exit 1
  echo "passed"
}
