// SPDX-License-Identifier: Apache-2.0
// What this processor's tiles can do, in GMAC/s: bench/amx prints it above the times of the UNet.
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "peak.hpp"

namespace md = mobilediffusion;

int main(int argc, char** argv) {
  try {
    if constexpr (!md::simd::has_tiles) {
      std::fprintf(stderr, "bench_amx: compiled without AMX\n");
      return 1;
    }
    const md::Executor ex(argc > 1 ? std::atoi(argv[1]) : 0);
    using bench::detail::tile_rate;
    std::printf("tiles, %d threads, GMAC/s out of registers and with the kernels' loads: bf16 %.0f, %.0f; int8 %.0f, %.0f\n",
                ex.threads(), 1e-9 * tile_rate<false, false>(ex), 1e-9 * tile_rate<false, true>(ex),
                1e-9 * tile_rate<true, false>(ex), 1e-9 * tile_rate<true, true>(ex));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_amx: %s\n", e.what());
    return 1;
  }
  return 0;
}
