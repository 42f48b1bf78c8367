// SPDX-License-Identifier: Apache-2.0
// The last line of every header: gives back the macros that begin.hpp set aside.
#pragma pop_macro("min")
#pragma pop_macro("max")
#pragma pop_macro("check")
#pragma pop_macro("require")
#pragma pop_macro("verify")
#pragma pop_macro("Status")
