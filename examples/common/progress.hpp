// SPDX-License-Identifier: Apache-2.0
// A progress line with rate and time left, on terminals only. (The indicators library is not in Debian 12.)
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>

namespace examples {

class Progress {
 public:
  Progress(std::string title, std::size_t total, std::size_t done = 0, bool wanted = true)
      : title_(std::move(title)), total_(total), first_(done), shown_(wanted && isatty(STDERR_FILENO) != 0), start_(Clock::now()) {}
  ~Progress() { if (shown_ && last_ > 0) std::fprintf(stderr, "\n"); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double rate(std::size_t done) const { return static_cast<double>(done - first_) / (seconds() + 1e-9); }

  void update(std::size_t done, const std::string& text = {}) {
    const double now = seconds();
    if (!shown_ || (now - last_ < 0.1 && done != total_)) return;
    last_ = now;
    const std::size_t width = 24, full = total_ == 0 ? width : width * done / total_;
    const double left = static_cast<double>(total_ - done) / (rate(done) + 1e-9);
    std::fprintf(stderr, "\r%s [%s%s] %zu/%zu  %.1f/s  %02d:%02d:%02d left  %s\033[K", title_.c_str(), std::string(full, '#').c_str(),
                 std::string(width - full, '.').c_str(), done, total_, rate(done), static_cast<int>(left / 3600),
                 static_cast<int>(left / 60) % 60, static_cast<int>(left) % 60, text.c_str());
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::string title_;
  std::size_t total_, first_;
  bool shown_;
  Clock::time_point start_;
  double last_ = 0;
};

}  // namespace examples
