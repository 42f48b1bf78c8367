// SPDX-License-Identifier: Apache-2.0
#include <mobilediffusion/core/memory.hpp>
#include <mobilediffusion/layers/feed_forward.hpp>
#include <mobilediffusion/reflect/reflect.hpp>

using namespace mobilediffusion;
using Layer = FeedForward<FeedForwardSpec{.width = 8, .ratio = 6, .activation = Activation::gelu}>;

// The sum of what a layer makes of ones.
float run_layer() {
  const Executor executor(2);
  const AlignedBuffer blob(reflect::storage_floats<Layer::Weights>()), memory(4096);
  for (float& w : blob.span()) w = 0.125f;
  const auto weights = reflect::bind<Layer::Weights>(blob.data());
  Stack stack(memory);
  Context context{executor, stack, 1, false};
  float x[8], y[8] = {}, zero[8] = {}, sum = 0.0f;
  for (float& v : x) v = 1.0f;
  Layer::Saved saved;
  Layer::forward(context, weights, x, zero, y, 1, saved);
  for (const float v : y) sum += v;
  return sum;
}
