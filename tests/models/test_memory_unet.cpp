// SPDX-License-Identifier: Apache-2.0
// The UNet takes exactly the memory that its compile-time plan says.
#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "model_runs.hpp"

namespace test_memory_unet_cpp {

using namespace mobilediffusion;
using namespace model_tests;

namespace {

template <UnetConfig C>
void check(const char* name) {
  for (const std::size_t batch : {std::size_t{1}, std::size_t{3}}) {
    INFO(name << ", batch " << batch);
    const Result r = run_unet<C, false>({.batch = batch, .threads = 2});
    CHECK(r.peak_inference == Unet<C>::stack_floats(Plan::inference, batch));
    CHECK(r.peak_training == Unet<C>::stack_floats(Plan::training, batch));
  }
}

}  // namespace

TEST_CASE("the UNet's activation memory is the planned number of floats") {
  check<presets::tiny.unet>("tiny");
  check<presets::emoji.unet>("emoji");
  check<odd::narrow_sd15>("narrow SD 1.5");
  check<odd::one_level>("one level");
  check<odd::no_middle>("no middle");
  check<odd::heavy_middle>("heavy middle");
}

}  // namespace test_memory_unet_cpp
