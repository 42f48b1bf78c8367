// SPDX-License-Identifier: Apache-2.0
// How many processors this process may use: what affinity allows, and what the quotas of its control groups leave of it.
#pragma once

#include "begin.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>
#ifdef __linux__
#include <sched.h>
#endif
#ifndef MOBILEDIFFUSION_NO_THREADS
#include <thread>
#endif

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

namespace detail {

// The next of the parts of `text` that `separator` divides, taken off its front.
std::string_view take_field(std::string_view& text, char separator);

// Whether `name` is one of the words of a list with commas.
bool lists(std::string_view list, std::string_view name);

std::optional<std::int64_t> whole_number(std::string_view text);

// Processors, as quota and period in microseconds say; infinite where they say nothing.
double processors_of(std::optional<std::int64_t> quota, std::optional<std::int64_t> period);

// A folder with the files of this process's control group, and the one that the groups are mounted at, its ancestor.
struct GroupFolder {
  std::string folder, top;
  bool unified;  // version 2: cpu.max; else cpu.cfs_quota_us and cpu.cfs_period_us
};

// cgroup and mountinfo: the texts of /proc/self/cgroup and /proc/self/mountinfo (their formats: cgroups(7), proc(5)). Lines that
// are none of either are passed over.
std::vector<GroupFolder> group_folders(std::string_view cgroup, std::string_view mountinfo);

// The least quota of the groups and of all their ancestors, in processors; infinite without one. read(path): the text of a file,
// or nothing.
template <class Read>
double group_quota(std::string_view cgroup, std::string_view mountinfo, Read&& read) {
  double least = std::numeric_limits<double>::infinity();
  const auto number = [&](const std::string& path) {
    const std::optional<std::string> text = read(path);
    return text ? whole_number(*text) : std::nullopt;
  };
  for (GroupFolder& group : group_folders(cgroup, mountinfo)) {
    for (std::string& folder = group.folder;;) {
      if (group.unified) {
        if (const std::optional<std::string> text = read(folder + "/cpu.max")) {
          std::string_view rest = *text;
          const std::string_view quota = take_field(rest, ' ');  // "max": none
          least = std::min(least, processors_of(whole_number(quota), whole_number(rest)));
        }
      } else {
        least = std::min(least, processors_of(number(folder + "/cpu.cfs_quota_us"), number(folder + "/cpu.cfs_period_us")));
      }
      if (folder.size() <= group.top.size()) break;
      folder.erase(std::max(folder.rfind('/'), group.top.size()));
    }
  }
  return least;
}

std::optional<std::string> read_text(const std::string& path);

// Processors that the scheduler may place this thread on.
int processors_by_affinity();

}  // namespace detail

// Threads that can compute at the same time: processors by affinity, at most the control groups' quota rounded up; at least 1.
// Elsewhere than on Linux, what the standard library says.
int available_processors();

#ifdef MOBILEDIFFUSION_BODIES

namespace detail {

MOBILEDIFFUSION_BODY std::string_view take_field(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view field = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return field;
}

MOBILEDIFFUSION_BODY bool lists(std::string_view list, std::string_view name) {
  while (!list.empty())
    if (take_field(list, ',') == name) return true;
  return false;
}

// Names in /proc/self/mountinfo have blanks and backslashes as three octal digits.
MOBILEDIFFUSION_BODY std::string without_escapes(std::string_view text) {
  std::string out;
  const auto digit = [&](std::size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '7'; };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

MOBILEDIFFUSION_BODY std::optional<std::int64_t> whole_number(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  std::int64_t value = 0;
  const auto r = std::from_chars(text.data(), text.data() + text.size(), value);
  if (r.ec != std::errc{} || r.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

MOBILEDIFFUSION_BODY double processors_of(std::optional<std::int64_t> quota, std::optional<std::int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::numeric_limits<double>::infinity();
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

MOBILEDIFFUSION_BODY std::vector<GroupFolder> group_folders(std::string_view cgroup, std::string_view mountinfo) {
  std::vector<GroupFolder> folders;
  while (!mountinfo.empty()) {
    std::string_view line = take_field(mountinfo, '\n');
    const std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    std::string_view front = line.substr(0, dash), back = line.substr(dash + 3);
    for (int i = 0; i < 3; ++i) take_field(front, ' ');  // mount, parent, device
    const std::string root = without_escapes(take_field(front, ' ')), top = without_escapes(take_field(front, ' '));
    const std::string_view type = take_field(back, ' ');
    take_field(back, ' ');  // source
    const bool unified = type == "cgroup2";
    if (top.empty() || !(unified || (type == "cgroup" && lists(take_field(back, ' '), "cpu")))) continue;
    for (std::string_view groups = cgroup; !groups.empty();) {
      std::string_view group = take_field(groups, '\n');
      const std::string_view number = take_field(group, ':'), controllers = take_field(group, ':');
      if (unified ? number != "0" || !controllers.empty() : !lists(controllers, "cpu")) continue;
      // The path is seen from the root of the hierarchy; of it the mount shows what lies below `root`.
      std::string path(group);
      if (root != "/") {
        if (path == root || path.starts_with(root + "/")) path.erase(0, root.size());
        else path.clear();
      }
      if (path == "/" || path.find("/..") != std::string::npos) path.clear();  // "/..": outside of this name space
      folders.push_back({top + path, top, unified});
    }
  }
  return folders;
}

MOBILEDIFFUSION_BODY std::optional<std::string> read_text(const std::string& path) {
  std::FILE* const file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return std::nullopt;
  std::string text;
  char part[4096];
  constexpr std::size_t most = std::size_t{1} << 22;
  for (std::size_t n; text.size() < most && (n = std::fread(part, 1, sizeof part, file)) > 0;) text.append(part, n);
  std::fclose(file);
  return text;
}

MOBILEDIFFUSION_BODY int processors_by_affinity() {
#ifdef MOBILEDIFFUSION_NO_THREADS
  return 1;
#else
#ifdef __linux__
  for (std::size_t words = 16; words <= 4096; words *= 2) {  // the system refuses a set that is smaller than its own
    std::vector<unsigned long> set(words);
    if (::sched_getaffinity(0, words * sizeof(unsigned long), reinterpret_cast<cpu_set_t*>(set.data())) != 0) continue;
    int count = 0;
    for (unsigned long word : set)
      for (; word != 0; word &= word - 1) ++count;
    return std::max(count, 1);
  }
#endif
  return static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
#endif
}

}  // namespace detail

MOBILEDIFFUSION_BODY int available_processors() {
  int count = detail::processors_by_affinity();
#ifdef __linux__
  if (count > 1) {
    const auto cgroup = detail::read_text("/proc/self/cgroup"), mountinfo = detail::read_text("/proc/self/mountinfo");
    if (cgroup && mountinfo) {
      const double quota = std::ceil(detail::group_quota(*cgroup, *mountinfo, detail::read_text));
      if (quota < static_cast<double>(count)) count = std::max(static_cast<int>(quota), 1);
    }
  }
#endif
  return count;
}

#endif

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
