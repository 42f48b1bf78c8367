# SPDX-License-Identifier: Apache-2.0
# Shared by examples/run and tests/run: packages of Debian and a quiet build. Expects root, the repository's directory.

boost_package=libboost-dev  # Debian 12's default is older than Boost.PFR
if [ -r /etc/os-release ] && grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then boost_package=libboost1.81-dev; fi

# Installs those of the named Debian packages that are missing. Elsewhere it leaves the judgement to CMake.
need_packages() {
  local package as_root=() missing=()
  if ! command -v dpkg-query > /dev/null; then
    command -v cmake > /dev/null || { echo "Please install CMake, a C++20 compiler, and what CMake then asks for" >&2; exit 1; }
    return 0
  fi
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null | grep -q '^installed' || missing+=("$package")
  done
  [ ${#missing[@]} -ne 0 ] || return 0

  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo > /dev/null; then
      echo "Please install as root: apt-get install ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "Installing from Debian: ${missing[*]}" >&2
  mkdir -p "$root/build"
  if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install --yes --no-install-recommends "${missing[@]}"; } > "$root/build/packages.log" 2>&1; then
    tail -n 20 "$root/build/packages.log" >&2
    echo "Please install: apt-get install ${missing[*]}" >&2
    exit 1
  fi
}

# build <target> <options of the configuration>: says nothing unless it fails; the whole output is in build/build.log.
build() {
  local target=$1 generator=()
  shift
  mkdir -p "$root/build"
  if [ ! -e "$root/build/CMakeCache.txt" ] && command -v ninja > /dev/null; then generator=(-G Ninja); fi
  if ! { cmake -S "$root" -B "$root/build" "${generator[@]}" "$@" &&
      cmake --build "$root/build" --target "$target" --parallel "$(nproc)"; } > "$root/build/build.log" 2>&1; then
    grep -E -m 20 'error|Error|FAILED' "$root/build/build.log" >&2 || true
    tail -n 30 "$root/build/build.log" >&2
    echo "The build failed; all of its output is in $root/build/build.log" >&2
    exit 1
  fi
}
