// SPDX-License-Identifier: Apache-2.0
// Files are replaced whole or not at all, and failures say why.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "catch.hpp"
#include "mobilediffusion/io/atomic_file.hpp"
#include "mobilediffusion/io/utf8.hpp"
#include "temporary_folder.hpp"

using namespace mobilediffusion;

namespace {

// Lets no file of this process grow beyond some bytes: what a full disk does, without one.
class SmallDisk {
 public:
  explicit SmallDisk(::rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const ::rlimit now{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~SmallDisk() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  ::rlimit old_{};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("a file is created, replaced and read back", "[io][atomic_file]") {
  const TemporaryFolder folder;
  const auto path = folder / "file";
  write_file(path, "first");
  CHECK(read_file(path) == "first");
  AtomicFile file(path);
  file.write("sec");
  file.write("ond");
  CHECK(file.size() == 6);
  CHECK(read_file(path) == "first");
  file.commit();
  CHECK(read_file(path) == "second");
  CHECK(folder.files() == 1);
  expect(error_of([&] { file.write("more"); }), "already committed");
  write_file(path, "");
  CHECK(read_file(path).empty());
}

TEST_CASE("what is not committed leaves no trace", "[io][atomic_file]") {
  const TemporaryFolder folder;
  const auto path = folder / "file";
  write_file(path, "old");
  { AtomicFile(path).write("new"); }
  CHECK(read_file(path) == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("a full disk keeps the old file and removes the temporary", "[io][atomic_file]") {
  const TemporaryFolder folder;
  const auto path = folder / "weights";
  write_file(path, "old");
  std::string error;
  {
    const SmallDisk disk(100'000);
    error = error_of([&] { write_file(path, std::string(1 << 20, 'x')); });
  }
  expect(error, path.string());
  expect(error, "cannot write: File too large");
  CHECK(read_file(path) == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("places that cannot be written are named with the reason", "[io][atomic_file]") {
  const TemporaryFolder folder;
  write_file(folder / "file", "x");
  const auto error = [&](const std::filesystem::path& path) { return error_of([&] { write_file(path, "text"); }); };
  expect(error(folder / "none/file"), "none/file\": cannot create: No such file or directory");
  expect(error(folder / "file/file"), "cannot create: Not a directory");
  expect(error(folder / ""), "name of a file is needed");
  std::filesystem::create_directory(folder / "sub");
  expect(error(folder / "sub"), "not a regular file");
  CHECK(contains(error("/dev/full"), "not a regular file"));  // must not be replaced by a file
  if (::geteuid() != 0) {
    ::chmod((folder / "sub").c_str(), 0500);
    expect(error(folder / "sub/file"), "cannot create: Permission denied");
    ::chmod((folder / "sub").c_str(), 0700);
  }
  CHECK(folder.files() == 2);
}

TEST_CASE("a replaced file keeps its permissions, a link stays a link", "[io][atomic_file]") {
  const TemporaryFolder folder;
  namespace fs = std::filesystem;
  write_file(folder / "file", "x");
  fs::permissions(folder / "file", fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("file", folder / "link");
  write_file(folder / "link", "y");
  CHECK(fs::is_symlink(fs::symlink_status(folder / "link")));
  CHECK(read_file(folder / "file") == "y");
  CHECK(fs::status(folder / "file").permissions() == (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("reading refuses what is missing, too long or no file", "[io][atomic_file]") {
  const TemporaryFolder folder;
  write_file(folder / "file", "12345");
  expect(error_of([&] { read_file(folder / "none"); }), "cannot open: No such file");
  expect(error_of([&] { read_file(folder / "file", 4); }), "5 bytes, at most 4");
  expect(error_of([&] { read_file(folder / ""); }), "not a regular file");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  expect(error_of([&] { read_file(folder / "pipe"); }), "not a regular file");
}

TEST_CASE("UTF-8 is checked strictly", "[io][utf8]") {
  constexpr auto ok = std::string_view::npos;
  for (const char* good : {"", "plain", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
                           "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "a\xE2\x82\xAC z"})
    CHECK(find_invalid_utf8(good) == ok);
  // Overlong forms, surrogates, beyond U+10FFFF, stray and missing continuations, bytes that never occur.
  for (const char* bad :
       {"\xC0\xAF", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\x80", "\xBF", "\xC2", "\xC2 ", "\xE2\x82", "\xE2\x82z", "\xF0\x90\x80", "\xFE", "\xFF"}) {
    CHECK(find_invalid_utf8(bad) == 0);
    CHECK(find_invalid_utf8(std::string("ab") + bad) == 2);
  }
  static_assert(find_invalid_utf8("a\xC3") == 1);
}
