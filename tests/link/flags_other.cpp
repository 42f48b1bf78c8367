// SPDX-License-Identifier: Apache-2.0
// The other of two translation units with different instruction sets (flags.cmake).
#include <mobilediffusion/kernels/elementwise.hpp>
#include <vector>

using namespace mobilediffusion;

// Right sums, by another kernel than the other unit's.
bool other_adds(void (*kernel)());
bool other_adds(void (*kernel)()) {
  std::vector<float> x(41, 3.0f), y(41, 4.0f);
  kernels::add_to(Executor(1), x.data(), y.data(), y.size());
  return y == std::vector<float>(41, 7.0f) && kernel != reinterpret_cast<void (*)()>(&kernels::add_to);
}

#if defined(SHARED)
Executor other_executor();
void other_takes(const Executor&);
Executor other_executor() { return Executor(1); }
void other_takes(const Executor&) {}
#endif
