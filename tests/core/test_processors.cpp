// SPDX-License-Identifier: Apache-2.0
// Quotas of control groups, from the texts that the system writes.
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mobilediffusion/core/processors.hpp"

using mobilediffusion::detail::group_folders;
using mobilediffusion::detail::group_quota;

namespace {

constexpr const char* version2 = "30 23 0:27 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* version1 =
    "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
    "32 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime shared:10 - cgroup cgroup rw,cpuset\n";

using Files = std::map<std::string, std::string>;

double quota(const char* cgroup, const char* mountinfo, const Files& files) {
  return group_quota(cgroup, mountinfo, [&](const std::string& path) -> std::optional<std::string> {
    const auto found = files.find(path);
    if (found == files.end()) return std::nullopt;
    return found->second;
  });
}

}  // namespace

TEST_CASE("version 2: the least quota of the group and its ancestors", "[processors]") {
  const Files files{{"/sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n"},
                    {"/sys/fs/cgroup/user.slice/a/cpu.max", "max 100000\n"},
                    {"/sys/fs/cgroup/user.slice/a/b/cpu.max", "400000 100000\n"}};
  CHECK(quota("0::/user.slice/a/b\n", version2, files) == 1.5);
  CHECK(quota("0::/user.slice/a\n", version2, files) == 1.5);
  CHECK(std::isinf(quota("0::/\n", version2, files)));
  CHECK(std::isinf(quota("0::/other\n", version2, files)));
  CHECK(quota("0::/\n", version2, {{"/sys/fs/cgroup/cpu.max", "50000 100000\n"}}) == 0.5);  // in a container: its root has one
}

TEST_CASE("version 1: the controller cpu, whatever else is mounted", "[processors]") {
  const Files files{{"/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "-1\n"},
                    {"/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n"},
                    {"/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "250000\n"},
                    {"/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n"},
                    {"/sys/fs/cgroup/cpuset/docker/x/cpu.cfs_quota_us", "1000\n"},
                    {"/sys/fs/cgroup/cpuset/docker/x/cpu.cfs_period_us", "100000\n"}};
  CHECK(quota("5:cpuset:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/\n", version1, files) == 2.5);
  CHECK(std::isinf(quota("4:cpu,cpuacct:/docker\n", version1, files)));
  CHECK(std::isinf(quota("5:cpuset:/docker/x\n4:cpuacct:/docker/x\n", version1, files)));
}

TEST_CASE("both versions at once, and a mount that shows a part of the tree", "[processors]") {
  std::string both = version1;
  both += version2;
  CHECK(quota("4:cpu,cpuacct:/a\n0::/b\n", both.c_str(),
              {{"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "300000"},
               {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000"},
               {"/sys/fs/cgroup/b/cpu.max", "200000 100000"}}) == 2.0);
  const char* part = "32 31 0:30 /docker/x /my\\040groups/cpu rw - cgroup cgroup rw,cpu\n";
  CHECK(group_folders("4:cpu:/docker/x/y\n", part).at(0).folder == "/my groups/cpu/y");
  CHECK(group_folders("4:cpu:/docker/x\n", part).at(0).folder == "/my groups/cpu");
  CHECK(group_folders("4:cpu:/docker/xy\n", part).at(0).folder == "/my groups/cpu");
  CHECK(group_folders("0::/../../z\n", version2).at(0).folder == "/sys/fs/cgroup");
  CHECK(group_folders("0::/a:b\n", version2).at(0).folder == "/sys/fs/cgroup/a:b");
}

TEST_CASE("texts that are none say nothing", "[processors]") {
  const Files files{{"/sys/fs/cgroup/a/cpu.max", "50000 100000"}};
  for (const char* cgroup : {"", "\n", "0", "0:", "0::", "0:::", "::/a", "x::/a", "0::../../etc\n", "0::/a\\"})
    for (const char* mounts :
         {"", "\n", " - ", "- cgroup2", " - cgroup2", "1 2 3 - cgroup2 x y", "1 2 3 4 5 - ", version1, version2}) {
      CAPTURE(cgroup, mounts);
      CHECK(std::isinf(quota(cgroup, mounts, files)));
    }
  for (const char* text : {"", "max", "max 100000", "50000", "50000 ", " 50000", "50000 0", "0 100000", "-1 100000", "5e4 100000",
                           "99999999999999999999 100000", "50000 100000 x", "50000  100000"}) {
    CAPTURE(text);
    CHECK(std::isinf(quota("0::/a\n", version2, {{"/sys/fs/cgroup/a/cpu.max", text}})));
  }
  CHECK(std::isinf(quota("4:cpu:/a\n", version1, {{"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "50000"}})));
}

TEST_CASE("this machine has processors", "[processors]") {
  CHECK(mobilediffusion::available_processors() >= 1);
  CHECK(mobilediffusion::available_processors() <= mobilediffusion::detail::processors_by_affinity());
}
