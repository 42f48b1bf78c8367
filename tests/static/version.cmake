# SPDX-License-Identifier: Apache-2.0
# The version stands in version.h; where it must be written again, it is the same. VERSION: CMake's; ROOT: the repository.
file(READ "${ROOT}/cmake/packaging/vcpkg/mobilediffusion/vcpkg.json" port)
string(JSON found GET "${port}" version-semver)
if(NOT found STREQUAL VERSION)
  message(FATAL_ERROR "vcpkg.json: expected version ${VERSION}, found ${found}")
endif()
file(STRINGS "${ROOT}/include/mobilediffusion/CHANGELOG.md" headings REGEX "^## ")
list(GET headings 0 newest)
if(NOT newest MATCHES "^## ([0-9.]+)" OR NOT CMAKE_MATCH_1 STREQUAL VERSION)
  message(FATAL_ERROR "CHANGELOG.md: expected ${VERSION} first, found '${newest}'")
endif()
