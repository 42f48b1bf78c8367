// SPDX-License-Identifier: Apache-2.0
// The bodies of the library's functions that are no templates (core/begin.hpp), for units that see declarations only: see
// MobileDiffusionDispatch.cmake. None of them calls a kernel, so they are the same for every instruction set.
#define MOBILEDIFFUSION_COMPILES_BODIES
#include <mobilediffusion/mobilediffusion.hpp>
