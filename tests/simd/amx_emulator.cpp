// SPDX-License-Identifier: Apache-2.0
// Executes AMX's instructions on a processor without them, from the signal that they raise: so that what
// tests/simd/test_tiles.cpp was compiled to is tested on any x86-64. Source: Intel's Software Developer's Manual, volume 2, the
// instructions' pages.
#include <signal.h>
#include <ucontext.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace {

constexpr int registers = 8, side = 16;

struct {
  bool configured = false;
  std::uint16_t row_bytes[registers] = {};
  std::uint8_t rows[registers] = {};
  std::uint32_t words[registers][side][side] = {};
} state;  // of the only thread

std::uint32_t without_denormals(std::uint32_t bits) { return (bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits; }
std::uint32_t add(std::uint32_t a, std::uint32_t b) {
  return without_denormals(std::bit_cast<std::uint32_t>(std::bit_cast<float>(a) + std::bit_cast<float>(b)));
}
std::uint32_t fused(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  const auto x = std::bit_cast<float>(without_denormals(a)), y = std::bit_cast<float>(without_denormals(b));
  return without_denormals(std::bit_cast<std::uint32_t>(std::fma(x, y, std::bit_cast<float>(c))));
}

bool usable(int t) { return t < registers && state.configured && state.rows[t] != 0; }

bool configure(const unsigned char* p) {
  if (p[0] != 1 || p[1] != 0) return false;
  for (int i = 2; i < 16; ++i)
    if (p[i] != 0) return false;
  state = {};
  for (int i = 0; i < registers; ++i) {
    std::memcpy(&state.row_bytes[i], p + 16 + 2 * i, 2);
    state.rows[i] = p[48 + i];
    if (state.row_bytes[i] > 4 * side || state.rows[i] > side || (state.rows[i] == 0) != (state.row_bytes[i] == 0)) return false;
  }
  return state.configured = true;
}

// c += a b; even and odd values of k apart in bf16.
bool multiply(int c, int a, int b, bool bytes) {
  for (const int t : {c, a, b})
    if (!usable(t)) return false;
  if (c == a || c == b || a == b || state.rows[c] != state.rows[a] || state.row_bytes[c] != state.row_bytes[b] ||
      state.row_bytes[a] != 4 * state.rows[b])
    return false;
  for (int m = 0; m < state.rows[c]; ++m)
    for (int n = 0; n < state.row_bytes[c] / 4; ++n) {
      std::uint32_t& sum = state.words[c][m][n];
      std::uint32_t even = 0, odd = 0;
      for (int k = 0; k < state.rows[b]; ++k) {
        const std::uint32_t x = state.words[a][m][k], y = state.words[b][k][n];
        if (bytes) {
          for (int i = 0; i < 32; i += 8)
            sum += static_cast<std::uint32_t>(static_cast<int>(x >> i & 255) * static_cast<std::int8_t>(y >> i & 255));
        } else {
          even = fused(x << 16, y << 16, even);
          odd = fused(x & 0xffff0000u, y & 0xffff0000u, odd);
        }
      }
      if (!bytes) sum = add(without_denormals(sum), add(even, odd));
    }
  return true;
}

// One instruction at p: where it ends, or nullptr if it is none of these. VEX.128.map2.W0, then ModRM.
const unsigned char* execute(const unsigned char* p, const greg_t* general) {
  static constexpr int order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  if (p[0] != 0xC4 || (p[1] & 0x9f) != 0x82 || (p[2] & 0x84) != 0) return nullptr;
  const int prefix = p[2] & 3, third = ~(p[2] >> 3) & 15, code = p[3];  // prefix: 1 66, 2 F3, 3 F2
  const int extra_index = (~p[1] >> 6 & 1) * 8, extra_base = (~p[1] >> 5 & 1) * 8;
  const int mode = p[4] >> 6, first = p[4] >> 3 & 7, second = p[4] & 7;
  const unsigned char* next = p + 5;
  const auto displacement = [&](int size) {
    std::int32_t d = static_cast<std::int8_t>(next[0]);
    if (size == 4) std::memcpy(&d, next, 4);
    next += size;
    return static_cast<std::uintptr_t>(static_cast<std::intptr_t>(d));
  };

  if (mode == 3) {
    if (code == 0x49 && prefix == 0 && p[4] == 0xC0) {
      state = {};
    } else if (code == 0x49 && prefix == 3 && second == 0 && usable(first)) {
      std::memset(state.words[first], 0, sizeof(state.words[first]));
    } else if (!((code == 0x5C && prefix == 2) || (code == 0x5E && prefix == 1)) ||
               !multiply(first, second + extra_base, third, code == 0x5E)) {
      return nullptr;
    }
    return next;
  }
  std::uintptr_t address = 0, stride = 0;
  const bool scaled = second == 4;
  if (scaled) {
    const int s = *next++, index = (s >> 3 & 7) + extra_index;
    if ((s & 7) == 5 && mode == 0) address = displacement(4);
    else address = static_cast<std::uintptr_t>(general[order[(s & 7) + extra_base]]);
    if (index != 4) stride = static_cast<std::uintptr_t>(general[order[index]]) << (s >> 6);
  } else if (mode == 0 && second == 5) {  // relative to the next instruction
    address = displacement(4);
    address += reinterpret_cast<std::uintptr_t>(next);
  } else {
    address = static_cast<std::uintptr_t>(general[order[second + extra_base]]);
  }
  if (mode != 0) address += displacement(mode == 1 ? 1 : 4);

  if (code == 0x49 && prefix == 0 && first == 0)
    return configure(reinterpret_cast<unsigned char*>(address + stride)) ? next : nullptr;
  if (code != 0x4B || !scaled || prefix == 0 || !usable(first)) return nullptr;
  if (prefix != 2) std::memset(state.words[first], 0, sizeof(state.words[first]));
  for (int r = 0; r < state.rows[first]; ++r) {
    auto* const memory = reinterpret_cast<unsigned char*>(address + static_cast<std::uintptr_t>(r) * stride);
    if (prefix == 2) std::memcpy(memory, state.words[first][r], state.row_bytes[first]);
    else std::memcpy(state.words[first][r], memory, state.row_bytes[first]);
  }
  return next;
}

}  // namespace

// Until the signal's action is set anew: Catch does that after each test.
void emulate_amx() {
  struct sigaction action = {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int signal, siginfo_t*, void* context) {
    greg_t* const general = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const unsigned char* const next = execute(reinterpret_cast<unsigned char*>(general[REG_RIP]), general);
    if (next != nullptr) general[REG_RIP] = reinterpret_cast<greg_t>(next);
    else ::signal(signal, SIG_DFL);  // and what is refused ends the program
  };
  sigaction(SIGILL, &action, nullptr);
}
