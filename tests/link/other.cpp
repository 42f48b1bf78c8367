// SPDX-License-Identifier: Apache-2.0
// The other of two translation units that include everything.
#include <mobilediffusion/mobilediffusion.hpp>

int other();
int other() { return 0; }
