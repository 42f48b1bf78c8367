// SPDX-License-Identifier: Apache-2.0
// VAE and text encoder take exactly the memory that their compile-time plans say.
#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "model_runs.hpp"

namespace test_memory_cpp {

using namespace mobilediffusion;
using namespace model_tests;

namespace {

template <class Part>
void check(const char* name, Result (*run)(const Way&)) {
  for (const std::size_t batch : {std::size_t{1}, std::size_t{3}}) {
    INFO(name << ", batch " << batch);
    const Result r = run({.batch = batch, .threads = 2});
    CHECK(r.peak_inference == Part::stack_floats(Plan::inference, batch));
    CHECK(r.peak_training == Part::stack_floats(Plan::training, batch));
  }
}

template <VaeConfig C>
void check_vae(const char* name) {
  check<typename Vae<C>::Encoder>(name, run_encoder<C, false>);
  check<typename Vae<C>::Decoder>(name, run_decoder<C, false>);
}

}  // namespace

TEST_CASE("the VAE's activation memory is the planned number of floats") {
  check_vae<presets::tiny.vae>("tiny");
  check_vae<presets::emoji.vae>("emoji");
  check_vae<odd::plain_vae>("plain");
  check_vae<odd::narrow_sd_vae>("narrow SD");
  check_vae<odd::one_level_vae>("one level");
  check_vae<odd::light_vae>("light");
  check_vae<odd::narrow_taesd>("narrow TAESD");
}

TEST_CASE("the VAE takes no more than what goes in and out of its widest part, and one tensor between") {
  constexpr std::size_t mebi = 1 << 18;  // floats of a MiB
  using Sd = Vae<presets::sd15.vae>;     // at 512x512 a tensor of 128 channels is 128 MiB, one of 256 is 256
  CHECK(Sd::Encoder::stack_floats(Plan::inference, 1) / mebi <= 3 * 128);
  CHECK(Sd::Decoder::stack_floats(Plan::inference, 1) / mebi <= 2 * 256 + 128 + 16);  // and a convolution's scratch
}

TEST_CASE("the text encoder's activation memory is the planned number of floats") {
  check<TextEncoder<presets::tiny.text>>("tiny", run_text<presets::tiny.text, false>);
  check<TextEncoder<presets::emoji.text>>("emoji", run_text<presets::emoji.text, false>);
  check<TextEncoder<odd::projected>>("projected", run_text<odd::projected, false>);
  check<TextEncoder<odd::projected_last>>("projected, last layer", run_text<odd::projected_last, false>);
  check<TextEncoder<odd::penultimate>>("penultimate", run_text<odd::penultimate, false>);
  check<TextEncoder<odd::wide_mlp>>("wide mlp", run_text<odd::wide_mlp, false>);
}

}  // namespace test_memory_cpp
