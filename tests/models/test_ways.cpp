// SPDX-License-Identifier: Apache-2.0
// The same model gives the same results however it is run: packed or not, on any number of threads, in any batches.
#include <cstring>

#include "catch.hpp"
#include "mobilediffusion/config/presets.hpp"
#include "model_runs.hpp"

namespace test_ways_cpp {

using namespace mobilediffusion;
using namespace model_tests;

namespace {

bool same_bytes(const Floats& a, const Floats& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// threads and packing at `batch`; two batches of one against one of two. The backward pass takes the planned memory.
template <class Part>
void check(const char* name, Result (*run)(const Way&)) {
  INFO(name);
  const Result plain = run({.batch = 2, .backward = true});
  CHECK(plain.peak_backward == Part::backward_floats(2));
  REQUIRE(std::all_of(plain.output.begin(), plain.output.end(), [](float x) { return std::isfinite(x); }));
  for (const int threads : {2, 3}) {
    INFO(threads << " threads");
    const Result other = run({.batch = 2, .threads = threads, .backward = true});
    CHECK(same_bytes(plain.output, other.output));
    CHECK(same_bytes(plain.input_gradient, other.input_gradient));
    CHECK(same_bytes(plain.weight_gradients, other.weight_gradients));
  }
  const Result packed = run({.batch = 2, .threads = 2, .packed = true});
  CHECK(gradient_tests::relative_error(packed.output, plain.output) < 1e-5);
}

// Outputs of one batch of two against those of two batches of one.
void check_batches(const char* name, Result (*run)(const Way&)) {
  INFO(name);
  const Result both = run({.batch = 2}), first = run({.batch = 1}), second = run({.batch = 1, .first = 1});
  Floats apart = first.output;
  apart.insert(apart.end(), second.output.begin(), second.output.end());
  CHECK(gradient_tests::relative_error(apart, both.output) < 1e-5);
  CHECK(gradient_tests::relative_error(first.output, second.output) > 1e-2);  // the two images are not the same one
}

}  // namespace

TEST_CASE("threads, packing and batches do not change what the UNet computes") {
  check<Unet<presets::tiny.unet>>("tiny", run_unet<presets::tiny.unet>);
  check_batches("tiny", run_unet<presets::tiny.unet>);
  check<Unet<odd::one_level>>("one level", run_unet<odd::one_level>);
  check<Unet<presets::emoji.unet>>("emoji", run_unet<presets::emoji.unet>);  // large enough for the kernels to divide their work
}

TEST_CASE("threads, packing and batches do not change what the VAE computes") {
  check<Vae<presets::tiny.vae>::Encoder>("tiny encoder", run_encoder<presets::tiny.vae>);
  check<Vae<presets::tiny.vae>::Decoder>("tiny decoder", run_decoder<presets::tiny.vae>);
  check_batches("tiny encoder", run_encoder<presets::tiny.vae>);
  check_batches("tiny decoder", run_decoder<presets::tiny.vae>);
  check<Vae<odd::light_vae>::Decoder>("light decoder", run_decoder<odd::light_vae>);
  check<Vae<odd::narrow_taesd>::Encoder>("tiny autoencoder's encoder", run_encoder<odd::narrow_taesd>);
  check<Vae<odd::narrow_taesd>::Decoder>("tiny autoencoder's decoder", run_decoder<odd::narrow_taesd>);
  check_batches("tiny autoencoder's decoder", run_decoder<odd::narrow_taesd>);
  check<Vae<presets::emoji.vae>::Encoder>("emoji encoder", run_encoder<presets::emoji.vae>);
  check<Vae<presets::emoji.vae>::Decoder>("emoji decoder", run_decoder<presets::emoji.vae>);
}

TEST_CASE("threads and packing do not change what the text encoder computes") {
  check<TextEncoder<presets::tiny.text>>("tiny", run_text<presets::tiny.text>);
  check<TextEncoder<odd::projected>>("projected", run_text<odd::projected>);
  check<TextEncoder<odd::projected_last>>("projected, last layer", run_text<odd::projected_last>);
  check<TextEncoder<odd::penultimate>>("penultimate", run_text<odd::penultimate>);
  check<TextEncoder<presets::emoji.text>>("emoji", run_text<presets::emoji.text>);
}

}  // namespace test_ways_cpp
