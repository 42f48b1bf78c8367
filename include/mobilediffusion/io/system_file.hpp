// SPDX-License-Identifier: Apache-2.0
// Every call of io/ to the operating system, for POSIX and for Windows (its C run-time library: windows.h would bring macros).
#pragma once

#include "../core/begin.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#include <share.h>
#include <sys/stat.h>

#include <memory>
#include <mutex>
#else
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "../core/error.hpp"
#include "message.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

// A path in messages: bytes as they are, on Windows UTF-8.
std::string path_text(const std::filesystem::path& path);
[[noreturn]] inline void fail_file(const std::filesystem::path& path, std::initializer_list<Piece> what) {
  throw Error(join({"file ", printable(path_text(path)), ": ", join(what)}));
}
[[noreturn]] inline void fail_file(const std::filesystem::path& path, const char* action, const std::error_code& error) {
  fail_file(path, {"cannot ", action, ": ", error.message()});
}
[[noreturn]] inline void fail_file_errno(const std::filesystem::path& path, const char* action, int code) {
  fail_file(path, action, std::error_code(code, std::generic_category()));
}

}  // namespace detail

// What stands at a path, links followed. Unlike the functions of std::filesystem these throw Error, and for nothing but what
// cannot be known: a name that is too long, links that run in a circle, a folder that may not be read.
enum class PathKind { none, file, folder, other };

PathKind kind_of(const std::filesystem::path& path);
inline bool path_exists(const std::filesystem::path& path) { return kind_of(path) != PathKind::none; }
inline bool is_folder(const std::filesystem::path& path) { return kind_of(path) == PathKind::folder; }

// With all folders above it; none of them may be a file.
void create_folders(const std::filesystem::path& path);

// What lies in a folder, sorted.
std::vector<std::filesystem::path> paths_in(const std::filesystem::path& folder);

// Where in a file something lies, such as an app's asset in its package.
struct FilePart {
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> length{};  // none: all that follows
};

namespace detail {

// A file's descriptor, so that no error path leaks it.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  int get() const { return value_; }
  bool is_open() const { return value_ >= 0; }
  // 0, or the error: network file systems report a full disk here.
  int close();

 private:
  int value_;
};

// A regular file, or a part of one, to read from, at any place. Reading is const: any number of threads may do it at once.
class InputFile {
 public:
  // Throws Error for what is missing, cannot be opened or is no regular file (a named pipe is not waited for), and for a part
  // that is not all there.
  explicit InputFile(const std::filesystem::path& path, const FilePart& part = {});

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return size_; }  // of the part, when it was opened

  // Fills out with what stands from `offset` of the part on. Throws Error where the file has become shorter or cannot be read.
  void read(std::uint64_t offset, std::span<std::byte> out) const;

 private:
#if defined(_WIN32)
  std::ptrdiff_t read_some(std::uint64_t offset, std::span<std::byte> out) const {
    const std::lock_guard lock(*mutex_);  // place and reading are two calls
    if (::_lseeki64(file_.get(), static_cast<std::int64_t>(offset), SEEK_SET) < 0) return -1;
    return ::_read(file_.get(), out.data(), static_cast<unsigned>(out.size()));
  }
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
#else
  std::ptrdiff_t read_some(std::uint64_t offset, std::span<std::byte> out) const {
    return ::pread(file_.get(), out.data(), out.size(), static_cast< ::off_t>(offset));
  }
#endif

  std::filesystem::path path_;
  Descriptor file_;
  std::uint64_t begin_ = 0, size_ = 0;
};

}  // namespace detail

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY std::string path_text(const std::filesystem::path& path) {
#if defined(_WIN32)
  const std::u8string text = path.u8string();
  return {text.begin(), text.end()};
#else
  return path.string();
#endif
}

}  // namespace detail

MOBILEDIFFUSION_BODY PathKind kind_of(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  switch (status.type()) {
    case std::filesystem::file_type::none:
      detail::fail_file(path, "open", error);
    case std::filesystem::file_type::not_found:
      return PathKind::none;
    case std::filesystem::file_type::regular:
      return PathKind::file;
    case std::filesystem::file_type::directory:
      return PathKind::folder;
    default:
      return PathKind::other;
  }
}

MOBILEDIFFUSION_BODY void create_folders(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) detail::fail_file(path, "create the folder", error);
}

MOBILEDIFFUSION_BODY std::vector<std::filesystem::path> paths_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    paths.push_back(at->path());
  if (error) detail::fail_file(folder, "list the folder", error);
  std::sort(paths.begin(), paths.end());
  return paths;
}

namespace detail {

MOBILEDIFFUSION_BODY Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(value_, other.value_);
  return *this;
}

MOBILEDIFFUSION_BODY int Descriptor::close() {
  const int value = std::exchange(value_, -1);
  if (value < 0) return 0;
#if defined(_WIN32)
  return ::_close(value) == 0 ? 0 : errno;
#else
  return ::close(value) == 0 ? 0 : errno;
#endif
}

MOBILEDIFFUSION_BODY InputFile::InputFile(const std::filesystem::path& path, const FilePart& part) : path_(path) {
  if (kind_of(path) == PathKind::folder) fail_file(path, {"cannot open: it is not a regular file but a folder"});
#if defined(_WIN32)
  int file = -1;
  if (const int code = ::_wsopen_s(&file, path.c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT, _SH_DENYNO, 0); code != 0)
    fail_file_errno(path, "open", code);
  file_ = Descriptor(file);
  struct ::_stat64 info {};
  if (::_fstat64(file, &info) != 0) fail_file_errno(path, "open", errno);
  const bool regular = (info.st_mode & _S_IFMT) == _S_IFREG;
#else
  file_ = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file_.is_open()) fail_file_errno(path, "open", errno);
  struct ::stat info {};
  if (::fstat(file_.get(), &info) != 0) fail_file_errno(path, "open", errno);
  const bool regular = S_ISREG(info.st_mode);
#endif
  if (!regular) fail_file(path, {"cannot open: it is not a regular file"});
  size_ = static_cast<std::uint64_t>(info.st_size);
  if (part.offset > size_ || (part.length && *part.length > size_ - part.offset))
    fail_file(path, {"expected ", part.length.value_or(0), " bytes from byte ", part.offset, " on, found ", size_, " in all"});
  begin_ = part.offset;
  size_ = part.length.value_or(size_ - part.offset);
}

MOBILEDIFFUSION_BODY void InputFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  offset += begin_;
  while (!out.empty()) {
    constexpr std::size_t most = std::size_t{1} << 30;  // some systems refuse more in one call
    const auto n = read_some(offset, out.first(std::min(out.size(), most)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_file_errno(path_, "read", errno);
    if (n == 0) fail_file(path_, {"cannot read: it became shorter meanwhile"});
    out = out.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
}

// What a writer needs. Each returns 0 or an error of errno.
namespace system {

#if defined(_WIN32)

// Nobody else can open, remove or rename what is open here: that is its lock.
MOBILEDIFFUSION_BODY int create_locked(const std::filesystem::path& path, Descriptor& file) {
  int value = -1;
  const int code = ::_wsopen_s(&value, path.c_str(), _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT, _SH_DENYRW,
                               _S_IREAD | _S_IWRITE);
  file = Descriptor(value);
  return code;
}
// Whether the name is free now.
MOBILEDIFFUSION_BODY bool remove_unlocked(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove(path, error);
  return !error;
}
MOBILEDIFFUSION_BODY std::ptrdiff_t write_some(int file, std::span<const std::byte> bytes) {
  return ::_write(file, bytes.data(), static_cast<unsigned>(bytes.size()));
}
MOBILEDIFFUSION_BODY int flush(int file) { return ::_commit(file) == 0 ? 0 : errno; }
MOBILEDIFFUSION_BODY void keep_permissions(int, std::filesystem::perms) {}
// The file cannot be renamed while it is open. Who removes it in between, taking it for abandoned, makes this fail.
MOBILEDIFFUSION_BODY int replace(Descriptor& file, const std::filesystem::path& from, const std::filesystem::path& to) {
  if (const int code = file.close(); code != 0) return code;
  std::error_code error;
  std::filesystem::rename(from, to, error);
  return error ? error.default_error_condition().value() : 0;
}
MOBILEDIFFUSION_BODY void flush_folder(const std::filesystem::path&) {}

#else

MOBILEDIFFUSION_BODY bool is_still(int file, const std::filesystem::path& path) {
  struct ::stat open {};
  struct ::stat named {};
  return ::fstat(file, &open) == 0 && ::lstat(path.c_str(), &named) == 0 && open.st_dev == named.st_dev &&
         open.st_ino == named.st_ino;
}

// Locked until it is closed, or its process ends in any way. EAGAIN: somebody else took it for abandoned before it was locked.
// Where a file system has no locks, nothing is ever taken for abandoned.
MOBILEDIFFUSION_BODY int create_locked(const std::filesystem::path& path, Descriptor& file) {
  file = Descriptor(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file.is_open()) return errno;
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return EAGAIN;
  return is_still(file.get(), path) ? 0 : EAGAIN;
}
// Whether the name is free now. A file is removed only under its lock, and only if it is what the name stands for.
MOBILEDIFFUSION_BODY bool remove_unlocked(const std::filesystem::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) return errno == ENOENT;
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return false;
  return !is_still(file.get(), path) || ::unlink(path.c_str()) == 0;
}
MOBILEDIFFUSION_BODY std::ptrdiff_t write_some(int file, std::span<const std::byte> bytes) {
  return ::write(file, bytes.data(), bytes.size());
}
MOBILEDIFFUSION_BODY int flush(int file) { return ::fsync(file) == 0 ? 0 : errno; }
MOBILEDIFFUSION_BODY void keep_permissions(int file, std::filesystem::perms permissions) {  // where they can be set
  [[maybe_unused]] const int ignored = ::fchmod(file, static_cast< ::mode_t>(permissions) & 07777);
}
// Under its lock, so that nobody takes it for abandoned.
MOBILEDIFFUSION_BODY int replace(Descriptor&, const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}
MOBILEDIFFUSION_BODY void flush_folder(
    const std::filesystem::path& folder) {  // best effort: the renaming itself survives a power cut
  const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_CLOEXEC));
  if (directory.is_open()) ::fsync(directory.get());
}

#endif

}  // namespace system

}  // namespace detail

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "../core/end.hpp"
