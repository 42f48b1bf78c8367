// SPDX-License-Identifier: Apache-2.0
// One of two translation units with different instruction sets (flags.cmake). Each adds by its own kernels, or, with SHARED, one
// asks the other for something of the library's.
#include <mobilediffusion/kernels/elementwise.hpp>
#include <vector>

using namespace mobilediffusion;
bool other_adds(void (*)());
#if defined(SHARED)
Executor other_executor();  // only its result is the library's
void other_takes(const Executor&);
#endif

int main() {
  if (!__builtin_cpu_supports("avx2")) return 0;  // not this machine's turn
#if defined(SHARED)
  const Executor executor = other_executor();
  other_takes(executor);
#else
  const Executor executor(1);
#endif
  std::vector<float> x(37, 1.0f), y(37, 2.0f);
  kernels::add_to(executor, x.data(), y.data(), y.size());
  return y == std::vector<float>(37, 3.0f) && other_adds(reinterpret_cast<void (*)()>(&kernels::add_to)) ? 0 : 1;
}
