// SPDX-License-Identifier: Apache-2.0
// Seconds a picture of the demo on a machine that has other things to do, by default and on one thread:
//
//   idle   nothing beside it
//   busy   one process that never waits on each processor, of the same priority
//   nice   the same, and the pictures drawn at priority nice 10
//   quota  nothing beside it, in a control group of half a processor (Linux, where this user may make one)
//
//   bench_busy [MODEL] [--steps 20] [--pictures 10] [--rounds 3]
//
// Each row is a process of its own, in turn, so that a disturbance meets all of them; the first picture of each is not counted.
// Run it on a machine that nobody else uses.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/pipeline.hpp"

namespace md = mobilediffusion;

namespace {

struct Options {
  std::string model;
  std::size_t steps = 20, pictures = 10, rounds = 3;
};

// Ends with the one that made it.
pid_t child(const std::function<int()>& work) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::_exit(work());
  }
  if (pid < 0) throw md::Error("fork: the system gives no process");
  return pid;
}

struct Hogs {
  std::vector<pid_t> pids;
  Hogs() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    ::sched_getaffinity(0, sizeof allowed, &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &allowed))
        pids.push_back(child([cpu] {
          cpu_set_t one;
          CPU_ZERO(&one);
          CPU_SET(cpu, &one);
          ::sched_setaffinity(0, sizeof one, &one);
          for (volatile unsigned n = 0;;) n = n + 1;
          return 0;
        }));
  }
  ~Hogs() {
    for (const pid_t pid : pids) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }
};

bool write(const std::string& path, const std::string& text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool done = file >= 0 && ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (file >= 0) ::close(file);
  return done;
}

// A control group of half a processor below this process's own; without a folder where it cannot be made.
struct HalfProcessor {
  std::string folder;
  HalfProcessor() {
    const auto cgroup = md::detail::read_text("/proc/self/cgroup"), mounts = md::detail::read_text("/proc/self/mountinfo");
    if (!cgroup || !mounts) return;
    for (const md::detail::GroupFolder& group : md::detail::group_folders(*cgroup, *mounts)) {
      if (group.unified) write(group.folder + "/cgroup.subtree_control", "+cpu");
      folder = group.folder + "/mobilediffusion_busy_" + std::to_string(::getpid());
      if (::mkdir(folder.c_str(), 0755) == 0) {
        if (group.unified ? write(folder + "/cpu.max", "50000 100000") : write(folder + "/cpu.cfs_quota_us", "50000")) return;
        ::rmdir(folder.c_str());
      }
      folder.clear();
    }
  }
  ~HalfProcessor() {
    if (!folder.empty()) ::rmdir(folder.c_str());
  }
};

// Draws in a process of its own; empty where that failed.
std::vector<double> draw(const Options& o, int threads, int priority, const std::string& group) {
  int ends[2];
  if (::pipe(ends) != 0) throw md::Error("pipe: the system gives none");
  const pid_t pid = child([&] {
    ::close(ends[0]);
    try {
      if (!group.empty() && !write(group + "/cgroup.procs", std::to_string(::getpid()))) return 1;
      if (priority != 0 && ::setpriority(PRIO_PROCESS, 0, priority) != 0) return 1;
      md::TextToImage<md::presets::emoji> model(o.model, threads);
      for (std::size_t i = 0; i <= o.pictures; ++i) {
        const auto start = std::chrono::steady_clock::now();
        model.generate({.prompt = "a red apple", .seed = i, .steps = o.steps});
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (i > 0 && ::write(ends[1], &seconds, sizeof seconds) != sizeof seconds) return 1;
      }
    } catch (const std::exception& e) {
      std::fprintf(stderr, "busy: %s\n", e.what());
      return 1;
    }
    return 0;
  });
  ::close(ends[1]);
  std::vector<double> all;
  for (double seconds; ::read(ends[0], &seconds, sizeof seconds) == sizeof seconds;) all.push_back(seconds);
  ::close(ends[0]);
  ::waitpid(pid, nullptr, 0);
  return all;
}

void measure(const Options& o) {
  struct Row {
    const char* name;
    int threads;
    bool hogs = false;
    int priority = 0;
    bool quota = false;
    std::vector<double> seconds{};
  };
  const HalfProcessor half;
  std::vector<Row> rows;
  for (const int threads : {0, 1}) {
    rows.push_back({"idle", threads});
    rows.push_back({"busy", threads, true});
    rows.push_back({"nice", threads, true, 10});
    if (!half.folder.empty()) rows.push_back({"quota", threads, false, 0, true});
  }
  if (half.folder.empty()) std::printf("quota: left out, no control group can be made here\n");
  for (std::size_t round = 0; round < o.rounds; ++round)
    for (Row& row : rows) {
      std::unique_ptr<Hogs> hogs;
      if (row.hogs) hogs = std::make_unique<Hogs>();
      const auto more = draw(o, row.threads, row.priority, row.quota ? half.folder : "");
      row.seconds.insert(row.seconds.end(), more.begin(), more.end());
    }
  std::printf("%zu step%s, %d processors\nsituation threads  pictures   least  median    most   of idle\n", o.steps,
              o.steps == 1 ? "" : "s", md::available_processors());
  double idle[2] = {0, 0};
  for (Row& row : rows) {
    if (row.seconds.empty()) continue;
    std::sort(row.seconds.begin(), row.seconds.end());
    const double median = row.seconds[row.seconds.size() / 2];
    if (std::string(row.name) == "idle") idle[row.threads] = median;
    std::printf("%-9s %-7s %9zu %7.4f %7.4f %7.4f %9.2f\n", row.name, row.threads == 0 ? "default" : "1", row.seconds.size(),
                row.seconds.front(), median, row.seconds.back(), median / idle[row.threads]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times pictures of the demo beside other processes", "bench_busy"};
  Options o;
  o.model = BUSY_MODEL;
  app.add_option("model", o.model, "A file of the preset emoji")->capture_default_str();
  app.add_option("--steps", o.steps)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--pictures", o.pictures, "Of a process")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_option("--rounds", o.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    measure(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "busy: %s\n", e.what());
    return 1;
  }
  return 0;
}
