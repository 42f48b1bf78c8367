// SPDX-License-Identifier: Apache-2.0
// Whole files: read at once, or replaced in one step so that a reader sees the old contents or the new, never a part.
#pragma once

#include "../core/begin.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "../core/error.hpp"
#include "message.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

[[noreturn]] inline void fail_file(const std::filesystem::path& path, std::initializer_list<Piece> what) {
  throw Error(join({"file ", printable(path.string()), ": ", join(what)}));
}
[[noreturn]] inline void fail_file_errno(const std::filesystem::path& path, const char* action, int code) {
  fail_file(path, {"cannot ", action, ": ", std::generic_category().message(code)});
}

// Owns a descriptor, so that no error path leaks it.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

}  // namespace detail

// Replaces a file: write() what it shall hold, then commit(). Until then, and after any failure, the old file is intact
// and no other trace is left; an object destroyed without commit() discards what was written.
// Source of the recipe: rename(2), which is atomic inside one file system; the temporary lies in the same folder.
class AtomicFile {
 public:
  // path: a regular file or nothing yet, in a folder that exists; a symbolic link is followed and kept.
  // Throws Error with the path and the system's reason.
  explicit AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
    namespace fs = std::filesystem;
    std::error_code error;
    target_ = path_;
    if (fs::is_symlink(fs::symlink_status(path_, error))) {
      target_ = fs::weakly_canonical(path_, error);
      if (error) detail::fail_file_errno(path_, "follow the symbolic link", error.value());
    }
    if (target_.filename().empty()) detail::fail_file(path_, {"cannot write: the name of a file is needed, not of a folder"});
    const fs::file_status old = fs::status(target_, error);
    if (fs::exists(old) && !fs::is_regular_file(old))
      detail::fail_file(path_, {"cannot write: it exists and is not a regular file"});

    // A name of our own instead of mkstemp: that would create the file readable by its owner only.
    constexpr int attempts = 100;
    for (int attempt = 0;; ++attempt) {
      temporary_ = target_;
      temporary_ += detail::join({".tmp-", ::getpid(), "-", reinterpret_cast<std::uintptr_t>(this) % 1000000, "-", attempt});
      file_ = detail::Descriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      if (file_.get() >= 0) break;
      if (errno != EEXIST || attempt == attempts) detail::fail_file_errno(path_, "create", errno);
    }
    if (fs::exists(old)) {  // permissions outlive the contents; where they cannot be set, the default ones do
      [[maybe_unused]] const int ignored = ::fchmod(file_.get(), static_cast<::mode_t>(old.permissions()) & 07777);
    }
  }
  ~AtomicFile() { discard(); }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends. Throws Error (full disk, quota, broken disk); the object is then of no more use.
  void write(std::span<const std::byte> bytes) {
    if (file_.get() < 0) detail::fail_file(path_, {"cannot write: it is already committed or has failed"});
    while (!bytes.empty()) {
      constexpr std::size_t most = std::size_t{1} << 30;  // some systems refuse more in one call
      const ::ssize_t n = ::write(file_.get(), bytes.data(), std::min(bytes.size(), most));
      if (n < 0) {
        if (errno == EINTR) continue;
        abandon("write", errno);
      }
      if (n == 0) abandon("write", ENOSPC);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      size_ += static_cast<std::size_t>(n);
    }
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

  // Makes the new contents durable and visible under the path, in that order. Throws Error.
  void commit() {
    if (file_.get() < 0) detail::fail_file(path_, {"cannot write: it is already committed or has failed"});
    if (::fsync(file_.get()) != 0) abandon("flush", errno);
    if (::close(file_.release()) != 0) abandon("close", errno);  // network file systems report a full disk here
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) abandon("replace", errno);
    temporary_.clear();
    const std::filesystem::path folder = target_.has_parent_path() ? target_.parent_path() : ".";
    const detail::Descriptor directory(::open(folder.c_str(), O_RDONLY | O_CLOEXEC));
    if (directory.get() >= 0) ::fsync(directory.get());  // best effort: the rename itself survives a power cut
  }

  const std::filesystem::path& path() const { return path_; }
  std::size_t size() const { return size_; }  // bytes written so far

 private:
  void discard() noexcept {
    file_ = detail::Descriptor();
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    temporary_.clear();
  }
  [[noreturn]] void abandon(const char* action, int code) {
    discard();
    detail::fail_file_errno(path_, action, code);
  }

  std::filesystem::path path_, target_, temporary_;
  detail::Descriptor file_;
  std::size_t size_ = 0;
};

// Replaces the file at path by these bytes in one step. Throws Error with the path and the system's reason.
inline void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}
inline void write_file(const std::filesystem::path& path, std::string_view text) {
  write_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

// The bytes of a regular file of at most `limit` bytes. Throws Error.
inline std::string read_file(const std::filesystem::path& path, std::size_t limit = std::size_t{1} << 30) {
  // Non-blocking, so that a named pipe is refused below instead of waited for.
  const detail::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) detail::fail_file_errno(path, "open", errno);
  struct ::stat info {};
  if (::fstat(file.get(), &info) != 0) detail::fail_file_errno(path, "read", errno);
  if (!S_ISREG(info.st_mode)) detail::fail_file(path, {"cannot read: it is not a regular file"});
  if (static_cast<std::uintmax_t>(info.st_size) > limit)
    detail::fail_file(path, {"cannot read: ", info.st_size, " bytes, at most ", limit, " are expected"});
  std::string bytes(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t have = 0;
  while (have < bytes.size()) {
    const ::ssize_t n = ::read(file.get(), bytes.data() + have, bytes.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) detail::fail_file_errno(path, "read", errno);
    if (n == 0) detail::fail_file(path, {"cannot read: it became shorter meanwhile"});
    have += static_cast<std::size_t>(n);
  }
  return bytes;
}

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
