# SPDX-License-Identifier: Apache-2.0
# A recipe of the repository that it lies in: conan create cmake/packaging/conan --build=missing
# In an index, source() by conandata.yml takes the place of export_sources().
import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rmdir
from conan.tools.system.package_manager import Apt, Brew

required_conan_version = ">=2.0"


class MobileDiffusion(ConanFile):
    name = "mobilediffusion"
    description = "MobileDiffusion in C++20 headers: text to image, and its training, configured at compile time"
    license = "Apache-2.0"
    topics = ("diffusion", "text-to-image", "machine-learning", "header-only")
    settings = "os", "arch", "compiler", "build_type"
    package_type = "library"
    # c: the library for C beside the headers; without it the package is headers alone.
    options = {"c": [True, False], "shared": [True, False], "fPIC": [True, False], "presets": ["ANY"], "dispatch": [True, False]}
    default_options = {"c": False, "shared": False, "fPIC": True, "presets": "emoji", "dispatch": True}

    @property
    def _root(self):
        return os.path.join(self.recipe_folder, "..", "..", "..")

    def set_version(self):
        text = load(self, os.path.join(self._root, "include", "mobilediffusion", "version.h"))
        self.version = ".".join(re.findall(r"#define MOBILEDIFFUSION_VERSION_[A-Z]+ (\d+)", text))

    def export_sources(self):
        copy(self, "CMakeLists.txt", self._root, self.export_sources_folder)
        copy(self, "LICENSE", self._root, self.export_sources_folder)
        copy(self, "*", os.path.join(self._root, "include"), os.path.join(self.export_sources_folder, "include"))
        copy(self, "*", os.path.join(self._root, "cmake"), os.path.join(self.export_sources_folder, "cmake"), excludes="packaging/*")

    def config_options(self):
        if self.settings.os == "Windows":
            del self.options.fPIC

    def configure(self):
        if self.options.shared or not self.options.c:
            self.options.rm_safe("fPIC")
        if not self.options.c:
            self.options.rm_safe("shared")
            self.package_type = "header-library"

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        for reference in ("xsimd/[>=13]", "boost/[>=1.81]", "nlohmann_json/[>=3.11]", "stb/[*]", "utf8proc/[>=2.6]"):
            self.requires(reference, transitive_headers=True, transitive_libs=True)

    # The index has no recipe of sentencepiece.
    def system_requirements(self):
        Apt(self).install(["libsentencepiece-dev"])
        Brew(self).install(["sentencepiece"])

    def package_id(self):
        if not self.info.options.c:
            self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["MOBILEDIFFUSION_INSTALL"] = True
        toolchain.cache_variables["MOBILEDIFFUSION_TESTS"] = "OFF"
        toolchain.cache_variables["MOBILEDIFFUSION_EXAMPLES"] = "OFF"
        toolchain.cache_variables["MOBILEDIFFUSION_C"] = bool(self.options.c)
        toolchain.cache_variables["MOBILEDIFFUSION_C_PRESETS"] = str(self.options.presets).replace(",", ";")
        toolchain.cache_variables["MOBILEDIFFUSION_C_DISPATCH"] = bool(self.options.dispatch)
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        CMake(self).install()
        rmdir(self, os.path.join(self.package_folder, "lib", "pkgconfig"))
        rmdir(self, os.path.join(self.package_folder, "share", "pkgconfig"))

    # The package's own CMake files are used: they have mobilediffusion_dispatch() and what the headers need.
    def package_info(self):
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [os.path.join("share", "cmake", "mobilediffusion"), os.path.join("lib", "cmake", "mobilediffusion_c")]
        self.cpp_info.bindirs = []
        self.cpp_info.system_libs = ["sentencepiece"]
        if self.options.c:
            self.cpp_info.libs = ["mobilediffusion"]
            if self.settings.os in ("Linux", "FreeBSD"):
                self.cpp_info.system_libs += ["m", "pthread"]
        else:
            self.cpp_info.libdirs = []
