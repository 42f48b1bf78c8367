# SPDX-License-Identifier: Apache-2.0
# Shared by examples/web/run and tests/wasm: emscripten, and what it compiles besides. Expects root, after prepare.sh.

# Into $root/build/wasm: include/ (headers that fit every system; xsimd 13 or newer, whose predecessors know no WebAssembly),
# sentencepiece/ and utf8proc/ (sources of this Debian's packages).
prepare_wasm() {
  local package directory=$root/build/wasm
  need_packages emscripten binaryen nodejs cmake make patch xz-utils libxsimd-dev "$boost_package" libstb-dev libsentencepiece-dev \
    libutf8proc-dev nlohmann-json3-dev "$@"
  mkdir -p "$directory/include"
  for package in boost nlohmann stb CLI catch2 utf8proc.h sentencepiece_processor.h sentencepiece_trainer.h; do
    ln -sfn "/usr/include/$package" "$directory/include/$package"
  done
  if dpkg --compare-versions "$(dpkg-query -W -f '${Version}' libxsimd-dev)" ge 13; then
    ln -sfn /usr/include/xsimd "$directory/include/xsimd"
  elif [ ! -e "$directory/include/xsimd/xsimd.hpp" ]; then
    (get_from_debian "$directory/lists-trixie" "deb $debian trixie main" download libxsimd-dev) || return
    dpkg-deb -x "$directory"/lists-trixie/libxsimd-dev_*.deb "$directory/lists-trixie/package"
    rm -rf "$directory/include/xsimd"
    mv "$directory/lists-trixie/package/usr/include/xsimd" "$directory/include/xsimd"
  fi
  for package in sentencepiece utf8proc; do
    [ ! -e "$directory/$package/.complete" ] || continue
    (get_from_debian "$directory/lists-source" "deb-src $debian $(. /etc/os-release && echo "$VERSION_CODENAME") main" \
      source --download-only "$package") || return
    rm -rf "${directory:?}/$package" && mkdir -p "$directory/$package"
    tar -xf "$directory/lists-source/${package}"_*.orig.tar.* -C "$directory/$package" --strip-components=1
    tar -xf "$directory/lists-source/${package}"_*.debian.tar.* -C "$directory/$package"
    (cd "$directory/$package" && grep -v '^#' debian/patches/series | while read -r patch; do
      patch -s -p1 < "debian/patches/$patch"
    done)
    touch "$directory/$package/.complete"
  done
}

# A node that is not Debian's own does not look where Debian keeps what emscripten's tools need of it.
export NODE_PATH=/usr/share/nodejs${NODE_PATH:+:$NODE_PATH}

debian=http://deb.debian.org/debian

# get_from_debian <folder> <line of sources.list> <command of apt-get>: in a list of our own, which leaves the machine's as it is.
get_from_debian() {
  local folder=$1 line=$2
  shift 2
  mkdir -p "$folder/lists/partial" "$folder/cache"
  cd "$folder"
  echo "$line" > sources.list
  local apt=(apt-get -q -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User=root)
  { "${apt[@]}" update && "${apt[@]}" "$@"; } > download.log 2>&1 || { tail download.log >&2; return 1; }
}
