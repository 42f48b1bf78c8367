// SPDX-License-Identifier: Apache-2.0
// The main function of the tests: Catch2 2 compiles it here, version 3 links it.
#if !__has_include(<catch2/catch_test_macros.hpp>)
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif
