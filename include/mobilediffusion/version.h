/* SPDX-License-Identifier: Apache-2.0 */
/* The version, in this one place: CMake reads it here. It is semantic (semver.org): while the major number is 0, a new minor one
   may break programs; CHANGELOG.md says how. */
#ifndef MOBILEDIFFUSION_VERSION_H
#define MOBILEDIFFUSION_VERSION_H

#define MOBILEDIFFUSION_VERSION_MAJOR 0
#define MOBILEDIFFUSION_VERSION_MINOR 1
#define MOBILEDIFFUSION_VERSION_PATCH 0

#endif
