// SPDX-License-Identifier: Apache-2.0
// Whole files: read at once, or replaced in one step so that a reader sees the old contents or the new, never a part.
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "../core/error.hpp"
#include "message.hpp"
#include "system_file.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Replaces a file: write() what it shall hold, then commit(). Until then, and after any failure, the old file is intact
// and no other trace is left; an object destroyed without commit() discards what was written.
// Source of the recipe: rename(2), which is atomic inside one file system; the temporary lies in the same folder.
//
// A process that is killed cannot remove its temporary. So that they do not pile up, a temporary's name is that of the file
// with ".tmp" behind it and its writer holds a lock on it, which the system releases with the process: the next writer of
// the file removes one that is not locked. Several at once take ".tmp-1" and so on. (O_TMPFILE would leave nothing, but
// such a file cannot replace another one without a name in between, and few file systems have it.)
class AtomicFile {
 public:
  // path: a regular file or nothing yet, in a folder that exists; a symbolic link is followed and kept, also one to a
  // file that is yet to be. Throws Error with the path and the system's reason.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile() { discard(); }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends. Throws Error (full disk, quota, broken disk); the object is then of no more use.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

  // Makes the new contents durable and visible under the path, in that order. Throws Error.
  void commit();

  const std::filesystem::path& path() const { return path_; }
  std::size_t size() const { return size_; }  // bytes written so far

 private:
  // Where a symbolic link leads, whether or not something is there.
  static std::filesystem::path followed(const std::filesystem::path& path);

  void create();
  static bool exists_now(const std::filesystem::path& path);
  // Of at most 255 letters, which is what file systems take, where the target's own name is.
  std::filesystem::path temporary_name(int slot) const;

  void check_open() const;
  void discard() noexcept;
  [[noreturn]] void abandon(const char* action, int code);

  std::filesystem::path path_, target_, temporary_;
  detail::Descriptor file_;
  std::size_t size_ = 0;
};

// Replaces the file at path by these bytes in one step. Throws Error with the path and the system's reason.
void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes);
inline void write_file(const std::filesystem::path& path, std::string_view text) {
  write_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

// The bytes of a regular file of at most `limit` bytes. Throws Error.
std::string read_file(const std::filesystem::path& path, std::size_t limit = std::size_t{1} << 30);

#ifdef MOBILEDIFFUSION_BODIES

MOBILEDIFFUSION_BODY AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)), target_(followed(path_)) {
  if (target_.filename().empty()) detail::fail_file(path_, {"cannot write: the name of a file is needed, not of a folder"});
  std::error_code error;
  const std::filesystem::file_status old = std::filesystem::status(target_, error);
  if (std::filesystem::exists(old) && !std::filesystem::is_regular_file(old))
    detail::fail_file(path_, {"cannot write: it exists and is not a regular file"});
  create();
  if (std::filesystem::exists(old)) detail::system::keep_permissions(file_.get(), old.permissions());
}

MOBILEDIFFUSION_BODY void AtomicFile::write(std::span<const std::byte> bytes) {
  check_open();
  while (!bytes.empty()) {
    constexpr std::size_t most = std::size_t{1} << 30;  // some systems refuse more in one call
    const auto n = detail::system::write_some(file_.get(), bytes.first(std::min(bytes.size(), most)));
    if (n < 0) {
      if (errno == EINTR) continue;
      abandon("write", errno);
    }
    if (n == 0) abandon("write", ENOSPC);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    size_ += static_cast<std::size_t>(n);
  }
}

MOBILEDIFFUSION_BODY void AtomicFile::commit() {
  check_open();
  if (const int code = detail::system::flush(file_.get()); code != 0) abandon("flush", code);
  if (const int code = detail::system::replace(file_, temporary_, target_); code != 0) abandon("replace", code);
  temporary_.clear();
  if (const int code = file_.close(); code != 0) abandon("close", code);
  detail::system::flush_folder(target_.has_parent_path() ? target_.parent_path() : ".");
}

MOBILEDIFFUSION_BODY std::filesystem::path AtomicFile::followed(const std::filesystem::path& path) {
  std::filesystem::path at = path;
  std::error_code error;
  constexpr int most = 40;  // what Linux follows
  for (int links = 0; std::filesystem::is_symlink(std::filesystem::symlink_status(at, error)); ++links) {
    if (links == most) detail::fail_file_errno(path, "follow the symbolic link", ELOOP);
    const std::filesystem::path to = std::filesystem::read_symlink(at, error);
    if (error) detail::fail_file(path, "follow the symbolic link", error);
    at = at.parent_path() / to;  // `to` alone where it is absolute
  }
  return at;
}

MOBILEDIFFUSION_BODY void AtomicFile::create() {
  constexpr int writers = 100;  // of one file at once
  for (int slot = 0; slot < writers; ++slot) {
    temporary_ = temporary_name(slot);
    for (int attempt = 0; attempt < 10; ++attempt) {
      const int code = detail::system::create_locked(temporary_, file_);
      if (code == 0) return;
      file_.close();
      if (code == EAGAIN) continue;                         // removed by another writer before it was locked
      const bool taken = code == EEXIST || code == EACCES;  // Windows says access for what somebody has open
      if (!taken || (code == EACCES && !exists_now(temporary_))) {
        temporary_.clear();
        detail::fail_file_errno(path_, "create", code);
      }
      if (!detail::system::remove_unlocked(temporary_)) break;
    }
  }
  temporary_.clear();
  detail::fail_file(path_, {"cannot create: more than ", writers, " temporary files of other writers are beside it"});
}

MOBILEDIFFUSION_BODY bool AtomicFile::exists_now(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::symlink_status(path, error));
}

MOBILEDIFFUSION_BODY std::filesystem::path AtomicFile::temporary_name(int slot) const {
  auto name = target_.filename().native();
  constexpr std::size_t longest = 240;
  if (name.size() > longest && name.size() <= 255) {
    std::size_t end = longest;
    while (end > 0 && (static_cast<unsigned>(name[end]) & 0xC0u) == 0x80u) --end;  // whole characters of UTF-8
    name.resize(end);
  }
  std::filesystem::path out = target_.parent_path() / name;
  out += ".tmp";
  if (slot > 0) out += "-" + std::to_string(slot);
  return out;
}

MOBILEDIFFUSION_BODY void AtomicFile::check_open() const {
  if (!file_.is_open()) detail::fail_file(path_, {"cannot write: it is already committed or has failed"});
}

MOBILEDIFFUSION_BODY void AtomicFile::discard() noexcept {
  if (!temporary_.empty()) {
#if defined(_WIN32)
    file_.close();  // what is open cannot be removed there
#endif
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);  // under its lock
    temporary_.clear();
  }
  file_.close();
}

MOBILEDIFFUSION_BODY void AtomicFile::abandon(const char* action, int code) {
  discard();
  detail::fail_file_errno(path_, action, code);
}

MOBILEDIFFUSION_BODY void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

MOBILEDIFFUSION_BODY std::string read_file(const std::filesystem::path& path, std::size_t limit) {
  const detail::InputFile file(path);
  if (file.size() > limit) detail::fail_file(path, {"cannot read: ", file.size(), " bytes, at most ", limit, " are expected"});
  std::string bytes(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
