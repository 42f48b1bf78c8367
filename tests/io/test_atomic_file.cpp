// SPDX-License-Identifier: Apache-2.0
// Files are replaced whole or not at all, and failures say why.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
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

TEST_CASE("a link to what is yet to be is followed, whatever it leads through", "[io][atomic_file]") {
  const TemporaryFolder folder;
  namespace fs = std::filesystem;
  fs::create_directory(folder / "there");
  fs::create_symlink("there/second", folder / "first");
  fs::create_symlink("third", folder / "there/second");
  write_file(folder / "first", "new");
  CHECK(fs::is_symlink(fs::symlink_status(folder / "first")));
  CHECK(fs::is_symlink(fs::symlink_status(folder / "there/second")));
  CHECK(read_file(folder / "there/third") == "new");
  fs::create_symlink((folder / "absolute").string(), folder / "link");
  write_file(folder / "link", "text");
  CHECK(read_file(folder / "absolute") == "text");
  fs::create_symlink("nowhere/file", folder / "lost");
  expect(error_of([&] { write_file(folder / "lost", "x"); }), "lost\": cannot create: No such file");
  CHECK(fs::is_symlink(fs::symlink_status(folder / "lost")));
}

TEST_CASE("names that are too long and links in a circle are errors like others", "[io][atomic_file]") {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("b", folder / "a");
  std::filesystem::create_symlink("a", folder / "b");
  const std::string name(256, 'n');
  expect(error_of([&] { write_file(folder / "a", "x"); }), "a\": cannot follow the symbolic link: ");
  expect(error_of([&] { read_file(folder / "a"); }), "a\": cannot open: ");
  expect(error_of([&] { write_file(folder / name, "x"); }), "cannot create: File name too long");
  expect(error_of([&] { read_file(folder / name); }), "cannot open: File name too long");
  expect(error_of([&] { path_exists(folder / name); }), "cannot open: File name too long");
  expect(error_of([&] { create_folders(folder / "a" / "c"); }), "cannot create the folder: ");
  expect(error_of([&] { paths_in(folder / "a"); }), "cannot list the folder: ");
  CHECK_FALSE(path_exists(folder / "c"));
  CHECK(paths_in(folder / "").size() == 2);
  // The longest name that a file may have leaves none for the usual temporary.
  write_file(folder / name.substr(1), "x");
  CHECK(read_file(folder / name.substr(1)) == "x");
  CHECK(folder.files() == 3);
}

TEST_CASE("what a killed writer left is removed by the next, what a living one writes is not", "[io][atomic_file]") {
  const TemporaryFolder folder;
  const auto put = [&](const char* name) { std::ofstream(folder / name) << "left over"; };
  put("file.tmp");
  write_file(folder / "file", "new");
  CHECK(read_file(folder / "file") == "new");
  CHECK(folder.files() == 1);
  // Two at once, and what is left of a third.
  AtomicFile first(folder / "file");
  put("file.tmp-1");
  AtomicFile second(folder / "file");
  first.write("first");
  second.write("second");
  CHECK(folder.files() == 3);
  second.commit();
  CHECK(read_file(folder / "file") == "second");
  first.commit();
  CHECK(read_file(folder / "file") == "first");
  CHECK(folder.files() == 1);
  // A temporary that is no file, or somebody else's, is left alone.
  std::filesystem::create_directory(folder / "file.tmp");
  put("file.tmp-1");
  const int other = ::open((folder / "file.tmp-1").c_str(), O_RDONLY);
  REQUIRE(::flock(other, LOCK_EX) == 0);
  write_file(folder / "file", "third");
  CHECK(read_file(folder / "file") == "third");
  CHECK(folder.files() == 3);
  ::close(other);
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
