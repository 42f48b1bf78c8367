// SPDX-License-Identifier: Apache-2.0
// One of two translation units that include everything: they link when every definition is inline.
#include <mobilediffusion/mobilediffusion.hpp>

int other();
int main() { return other(); }
