// SPDX-License-Identifier: Apache-2.0
// Google Benchmark against what the machine can do, measured in the same run.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

#include "mobilediffusion/kernels/kernels.hpp"
#include "peak.hpp"

namespace bench {

using md::Executor;
using md::Format;
namespace kernels = md::kernels;

struct Work {
  Format format = Format::fp32;
  std::size_t macs = 0, bytes = 0;  // no macs: bound by memory
};

struct Bench {
  Executor fp32, bf16;
  bench::Peak peak = bench::measure_peak(fp32);
  double bandwidth = bench::measure_bandwidth(fp32);

  explicit Bench(int threads) : fp32(threads), bf16(threads, md::Precision::bf16) {
    const auto context = [](const char* key, double value) { benchmark::AddCustomContext(key, std::to_string(value * 1e-9)); };
    benchmark::AddCustomContext("instruction_set", kernels::instruction_set());
    benchmark::AddCustomContext("threads", std::to_string(fp32.threads()));
    context("peak_fp32_gflops", 2 * peak.fp32);
    context("peak_bf16_gflops", 2 * peak.bf16);
    context("peak_int8_gflops", 2 * peak.int8);
    context("read_bandwidth_gb", bandwidth);
  }

  // body(executor, loop) prepares what it needs and calls loop(f) once. label: printed behind the numbers.
  template <class Body>
  void add(const std::string& name, Work work, Body body, const std::string& label = "") const {
    auto* b = benchmark::RegisterBenchmark(name.c_str(), [=, this](benchmark::State& state) {
      const Executor& ex = work.format == Format::bf16 ? bf16 : fp32;
      body(ex, [&](auto&& f) {
        f();
        const double start = bench::now(ex);
        for (auto _ : state) {
          f();
          benchmark::ClobberMemory();
        }
        const double rate = static_cast<double>(state.iterations()) / (bench::now(ex) - start);
        if (work.macs > 0) {
          state.counters["GFLOP/s"] = 2e-9 * static_cast<double>(work.macs) * rate;
          state.counters["% of peak"] = 100 * static_cast<double>(work.macs) * rate / peak.of(work.format);
        } else {
          state.counters["GB/s"] = 1e-9 * static_cast<double>(work.bytes) * rate;
          state.counters["% of bandwidth"] = 100 * static_cast<double>(work.bytes) * rate / bandwidth;
        }
      });
      state.SetLabel(label);
    });
    b->Unit(benchmark::kMicrosecond);
    if (fp32.threads() > 1) b->UseRealTime();
  }
};

// A program: [--threads N] [options of Google Benchmark]; add(Bench) registers what there is. Returns the exit status.
template <class Add>
int run_against_peak(const char* program, int argc, char** argv, Add&& add) {
  int threads = 1;
  if (argc > 2 && std::string_view(argv[1]) == "--threads") {
    threads = std::atoi(argv[2]);
    argv[2] = argv[0];
    argv += 2;
    argc -= 2;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  try {
    const Bench b(threads);
    add(b);
    benchmark::RunSpecifiedBenchmarks();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", program, e.what());
    return 1;
  }
  return 0;
}

}  // namespace bench
