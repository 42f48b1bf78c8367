// SPDX-License-Identifier: Apache-2.0
// The parallel loop: who computes what, exceptions, misuse, processes that fork.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <numeric>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "forks.hpp"
#include "mobilediffusion/core/executor.hpp"

using mobilediffusion::Error;
using mobilediffusion::Executor;
using namespace std::chrono_literals;

namespace {

struct Range {
  std::size_t begin, end;
  bool operator==(const Range&) const = default;
  bool operator<(const Range& other) const { return begin < other.begin; }
};

// The ranges of a loop, in order.
std::vector<Range> ranges(const Executor& ex, std::size_t n, std::size_t grain) {
  std::vector<Range> found(n);
  std::atomic<std::size_t> count{0};
  ex.parallel_for(n, grain, [&](std::size_t begin, std::size_t end, int) { found[count.fetch_add(1)] = {begin, end}; });
  found.resize(count);
  std::sort(found.begin(), found.end());
  return found;
}

std::string message_of(const auto& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("a loop covers every item once, in at most as many ranges as threads and grain allow", "[executor]") {
  for (const int threads : {1, 2, 3, 8}) {
    const Executor ex = Executor::oversubscribed(threads);
    CHECK(ex.threads() == threads);
    for (const std::size_t n : {0u, 1u, 2u, 7u, 8u, 9u, 1000u})
      for (const std::size_t grain : {0u, 1u, 3u, 1000u, 5000u}) {
        CAPTURE(threads, n, grain);
        const std::vector<Range> found = ranges(ex, n, grain);
        std::size_t next = 0;
        for (const Range& r : found) {
          CHECK(r.begin == next);
          next = r.end;
        }
        CHECK(next == n);
        const std::size_t most = grain == 0 ? n : (n + grain - 1) / grain;
        CHECK(found.size() == std::min<std::size_t>(most, static_cast<std::size_t>(threads)));
      }
  }
}

TEST_CASE("calls at the same time have different threads, and each its own scratch", "[executor]") {
  constexpr int threads = 4;
  const Executor ex = Executor::oversubscribed(threads);
  std::array<std::atomic<int>, threads> inside{};
  std::atomic<bool> alone{true};
  std::vector<std::size_t> sums(64);
  for (std::size_t round = 0; round < 2000; ++round) {
    const std::size_t n = 1 + round % 64;
    ex.parallel_for(n, 1, [&](std::size_t begin, std::size_t end, int thread) {
      if (inside[static_cast<std::size_t>(thread)].fetch_add(1) != 0) alone = false;
      float* own = ex.scratch(thread);
      for (std::size_t i = begin; i < end; ++i) own[i] = static_cast<float>(round + i);
      for (std::size_t i = begin; i < end; ++i) sums[i] += static_cast<std::size_t>(own[i]);
      inside[static_cast<std::size_t>(thread)].fetch_sub(1);
    });
  }
  CHECK(alone);
  std::vector<std::size_t> expected(64);
  for (std::size_t round = 0; round < 2000; ++round)
    for (std::size_t i = 0; i < 1 + round % 64; ++i) expected[i] += round + i;
  CHECK(sums == expected);
}

TEST_CASE("a thread that is late does not hold up the others: they compute its part", "[executor]") {
  const Executor ex = Executor::oversubscribed(2);
  std::atomic<int> parts{0};
  std::atomic<bool> slept{false};
  ex.parallel_for(2, 1, [&](std::size_t, std::size_t, int) {
    ++parts;
    if (!slept.exchange(true)) std::this_thread::sleep_for(20ms);  // the other takes the rest, and the caller waits asleep
  });
  CHECK(parts == 2);
  std::this_thread::sleep_for(20ms);  // workers sleep
  for (int i = 0; i < 100; ++i) {
    CHECK(ranges(ex, 2, 1) == std::vector<Range>{{0, 1}, {1, 2}});
    if (i % 10 == 0) std::this_thread::sleep_for(1ms);
  }
}

TEST_CASE("an exception of any part reaches the caller after all have ended, and the executor stays usable", "[executor]") {
  for (const int threads : {1, 2, 5}) {
    const Executor ex = Executor::oversubscribed(threads);
    for (std::size_t thrower = 0; thrower < 5; ++thrower) {
      CAPTURE(threads, thrower);
      std::atomic<int> running{0};
      const auto loop = [&] {
        ex.parallel_for(5, 1, [&](std::size_t begin, std::size_t end, int) {
          ++running;
          std::this_thread::sleep_for(1ms);
          --running;
          if (begin <= thrower && thrower < end) throw Error("part " + std::to_string(thrower));
        });
      };
      CHECK(message_of(loop) == "part " + std::to_string(thrower));
      CHECK(running == 0);
      CHECK(ranges(ex, 10, 1).size() == static_cast<std::size_t>(threads));
    }
    CHECK_THROWS_AS(ex.parallel_for(100, 1, [](std::size_t, std::size_t, int) { throw 1; }), int);  // of several, one
  }
}

TEST_CASE("a loop inside a loop of the same executor is refused, of another one it is none", "[executor]") {
  for (const int threads : {1, 2}) {
    const Executor ex = Executor::oversubscribed(threads), other(1);
    const auto nested = [&](const Executor& inner) {
      std::atomic<bool> busy{false};
      ex.parallel_for(2, 1, [&](std::size_t, std::size_t, int) {
        if (!busy.exchange(true)) inner.parallel_for(2, 1, [](std::size_t, std::size_t, int) {});
      });
    };
    CHECK(message_of([&] { nested(ex); }).find("one caller at a time") != std::string::npos);
    CHECK(message_of([&] { nested(other); }) == "nothing was thrown");
    CHECK(message_of([&] { nested(other); }) == "nothing was thrown");
  }
}

TEST_CASE("two threads with one executor: each has the right result or an error", "[executor]") {
  const Executor ex = Executor::oversubscribed(2);
  std::atomic<int> wrong{0}, refused{0}, right{0};
  const auto use = [&] {
    for (int i = 0; i < 500; ++i) {
      std::vector<int> values(64);
      try {
        ex.parallel_for(values.size(), 1, [&](std::size_t begin, std::size_t end, int) {
          for (std::size_t j = begin; j < end; ++j) values[j] = static_cast<int>(j);
        });
        ++(std::accumulate(values.begin(), values.end(), 0) == 63 * 32 ? right : wrong);
      } catch (const Error&) {
        ++refused;
      }
    }
  };
  std::thread a(use), b(use);
  a.join();
  b.join();
  CHECK(wrong == 0);
  CHECK(right + refused == 1000);
  CHECK(right > 0);
}

TEST_CASE("executors can be moved; what was moved from says so", "[executor]") {
  Executor a = Executor::oversubscribed(3);
  Executor b = std::move(a);
  CHECK(ranges(b, 3, 1).size() == 3);
  CHECK_FALSE(a.usable());
  CHECK(message_of([&] { ranges(a, 3, 1); }).find("moved from") != std::string::npos);
  a = std::move(b);
  CHECK(ranges(a, 3, 1).size() == 3);
  static_assert(!std::is_copy_constructible_v<Executor>);
}

TEST_CASE("threads end with their executor, however short its life", "[executor]") {
  for (int i = 0; i < 50; ++i) {
    const Executor ex = Executor::oversubscribed(1 + i % 4);
    if (i % 3 != 0) CHECK(ranges(ex, 4, 1).size() == static_cast<std::size_t>(1 + i % 4));
  }
}

TEST_CASE("more threads than the processors are cut to them", "[executor]") {
  const int available = mobilediffusion::available_processors();
  CHECK(available >= 1);
  CHECK(Executor().threads() == available);
  CHECK(Executor(1024).threads() == available);
  CHECK(Executor(1).threads() == 1);
  CHECK(Executor(1024).scratch_bytes() == static_cast<std::size_t>(available) * 4 * Executor::scratch_floats);
}

#ifdef TESTS_CAN_FORK
TEST_CASE("a forked process computes on, with what it inherited and with its own", "[executor]") {
  const Executor ex = Executor::oversubscribed(3);
  const std::vector<Range> expected = ranges(ex, 3, 1);
  std::this_thread::sleep_for(5ms);  // workers sleep: what they wait at is in use when the process forks
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int status = 1;
    {
      Executor inherited = Executor::oversubscribed(1);
      std::size_t items = 0;
      ex.parallel_for(3, 1, [&](std::size_t begin, std::size_t end, int) { items += end - begin; });
      const Executor own = Executor::oversubscribed(3);
      if (items == 3 && ranges(own, 3, 1) == expected) status = 0;
      inherited = std::move(const_cast<Executor&>(ex));  // and destroys it
    }
    ::_exit(status);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(ranges(ex, 3, 1) == expected);
}
#endif
