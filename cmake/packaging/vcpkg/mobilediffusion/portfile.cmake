# SPDX-License-Identifier: Apache-2.0
# An overlay port of the repository that it lies in: vcpkg install mobilediffusion --overlay-ports=cmake/packaging/vcpkg
# In a registry, vcpkg_from_github with the tag's archive takes the place of the next line.
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../../.." ABSOLUTE)

vcpkg_check_features(OUT_FEATURE_OPTIONS options FEATURES c MOBILEDIFFUSION_C)
vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS ${options} -DMOBILEDIFFUSION_INSTALL=ON -DMOBILEDIFFUSION_TESTS=OFF -DMOBILEDIFFUSION_EXAMPLES=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME mobilediffusion CONFIG_PATH share/cmake/mobilediffusion)
if("c" IN_LIST FEATURES)
  vcpkg_cmake_config_fixup(PACKAGE_NAME mobilediffusion_c CONFIG_PATH lib/cmake/mobilediffusion_c)
  if(VCPKG_LIBRARY_LINKAGE STREQUAL "static")
    file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/bin" "${CURRENT_PACKAGES_DIR}/debug/bin")
  endif()
else()
  file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/lib")
endif()
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share")
if(NOT "c" IN_LIST FEATURES)
  file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug")
endif()
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
