#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The commands of a README's ```sh blocks: commands.sh README ROOT BUILD. In a temporary folder that has the names of the
# repository and its build, in the order in which they stand:
#   programs of build/examples, and examples/run   are run and must succeed
#   the same with a comment that names a time,     are looked at: they exist, and --help or the source knows each option
#   programs that are not built
#   mkdir and cp                                   are run; "> FILE" behind a command that is run keeps its output
#   other scripts, cmake, ctest, python, torchrun, apt-get   are looked at: files, options, presets, targets, packages are known
# Whatever else there is fails, so that no line goes unseen.
set -u
readme=$1 root=$2 build=$3
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work" || exit 1
ln -s "$build" build
for name in bench cmake examples include tests; do ln -s "$root/$name" "$name"; done
failures=0 seen=0

fail() {
  printf 'FAILED: %s: %s: %s\n' "$readme" "$line" "$*"
  failures=$((failures + 1))
}
run() {
  if "$@" > out 2> err < /dev/null; then
    [ -z "$to" ] || cp out "$to"
    return
  fi
  fail "status $?"
  sed 's/^/  /' out err
}
# knows <text> <word...>: each option among the words stands in the text.
knows() {
  local text=$1 word
  shift
  for word in "$@"; do
    case $word in -*) ;; *) continue ;; esac
    grep -q -e "\(^\|[^-A-Za-z0-9]\)${word%%=*}\([^-A-Za-z0-9]\|$\)" <<< "$text" || fail "no option $word"
  done
}
# The source of a program that is not built.
source_of() {
  local name=${1##*/}
  case $name in
    bench_ablation*) echo "$root/bench/ablation/main.cpp" ;;
    bench_peers) echo "$root/bench/peers/ours.cpp" ;;
    bench_pictures) echo "$root/bench/peers/pictures.cpp" ;;
    bench_*) echo "$root/bench/${name#bench_}.cpp" ;;
    fuzz_*) echo "$root/tests/fuzz/$name.cpp" ;;
    *) echo "$root/examples/$name.cpp" ;;
  esac
}
look_at_program() {
  local program=$1 source
  shift
  if [ -x "$program" ] && [[ $program != */fuzz_* ]]; then
    knows "$("$program" --help 2>&1)" "$@"
    return
  fi
  source=$(source_of "$program")
  [ -e "$source" ] || { fail "no program $program, nor its source"; return; }
  knows "$(cat "$source" "$root/examples/common/arguments.hpp")" "$@"
}
look_at_cmake() {
  local word before=
  for word in "$@"; do
    case $before in
      --preset) grep -q "\"name\": \"$word\"" "$root/CMakePresets.json" || fail "no preset $word" ;;
      --target) [ -e "$root/examples/$word.cpp" ] || grep -qrw --include=CMakeLists.txt --include='*.cmake' -e "$word" "$root" ||
        fail "no target $word" ;;
      -D) grep -qrw --include=CMakeLists.txt --include='*.cmake' -e "${word%%[=:]*}" "$root" || fail "no variable $word" ;;
    esac
    before=$word
  done
}
look_at_packages() {
  local word
  for word in "${@:3}"; do
    case $word in -*) continue ;; esac
    grep -q -w -F -e "$word" "$root/examples/run" "$root/tests/run" "$root/cmake/prepare.sh" || fail "no package $word"
  done
}
look_at_compiler() {
  local word
  for word in "$@"; do
    case $word in
      -I*) [ -d "${word#-I}" ] || fail "no folder ${word#-I}" ;;
      -l*) grep -q -e "$word\b" "$root/cmake/mobilediffusion.pc.in" || fail "no library $word" ;;
    esac
  done
}

# check <long> <word...>
check() {
  local long=$1
  shift
  case $1 in
    build/examples/* | examples/run)
      if [ "$1" = examples/run ]; then
        [ -x examples/run ] || fail "cannot be executed"
        set -- build/examples/generate "${@:2}"
      fi
      if [ -n "$long" ] || [ ! -x "$1" ]; then look_at_program "$@"; else run "$@"; fi ;;
    build*/*) look_at_program "$@" ;;
    bench/profile)
      [ -x "$1" ] || fail "cannot be executed"
      look_at_program build/bench/bench_profile "${@:2}" ;;
    tests/run) [ -x "$1" ] || fail "cannot be executed" ;;  # its arguments are ctest's
    bench/* | tests/* | examples/web/*)
      [ -x "$1" ] || fail "cannot be executed"
      knows "$(cat "$1")" "${@:2}" ;;
    cmake | ctest) look_at_cmake "$@" ;;
    python | venv/bin/python)
      case $2 in
        -m) case "$3 ${5:-}" in 'pip -r') [ -e "$6" ] || fail "no file $6" ;; 'pip '* | 'venv '*) ;; *) fail "what is $3?" ;; esac ;;
        *) if [ -e "$2" ]; then knows "$(cat "$2")" "${@:3}"; else fail "no file $2"; fi ;;
      esac ;;
    venv/bin/torchrun)  # its own options, then a script and the script's
      while [ $# -gt 0 ] && [[ $1 != *.py ]]; do shift; done
      if [ -e "${1:-nothing}" ]; then knows "$(cat "$1")" "${@:2}"; else fail "no script"; fi ;;
    venv/bin/pip) ;;
    mkdir | cp) run "$@" ;;
    apt-get) look_at_packages "$@" ;;
    g++) look_at_compiler "$@" ;;
    *) fail "no rule for $1" ;;
  esac
}

inside= text=
while IFS= read -r row || [ -n "$row" ]; do
  case $row in
    '```sh') inside=1; continue ;;
    '```'*) inside=; continue ;;
  esac
  [ -n "$inside" ] || continue
  text+=$row
  if [[ $text == *\\ ]]; then text=${text%\\}; continue; fi
  line=$text text= long=
  [ -n "$line" ] || continue
  seen=$((seen + 1))
  code=${line%% \# *}
  if [ "$code" != "$line" ] && [[ ${line##* \# } =~ second|minute|hour ]]; then long=1; fi
  # The shell's own words, quotes included; commands are joined by && alone.
  while [ -n "$code" ]; do
    part=${code%%&&*}
    if [ "$part" = "$code" ]; then code=; else code=${code#*&&}; fi
    to=
    if [[ $part =~ ^(.*)\ \>\ ([a-z0-9_.]+)\ *$ ]]; then part=${BASH_REMATCH[1]} to=${BASH_REMATCH[2]}; fi
    set -f
    eval "words=($part)"
    set +f
    check "$long" "${words[@]}"
  done
done < "$root/$readme"

[ "$failures" -eq 0 ] || exit 1
echo "$seen lines passed"
