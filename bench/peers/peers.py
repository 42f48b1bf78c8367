# SPDX-License-Identifier: Apache-2.0
"""Times the library and its rivals on the same network with the same weights, on the same threads, in turn.

    cmake --preset bench && cmake --build build-bench --target bench_peers
    python -m pip install -r bench/peers/requirements.txt
    python bench/peers/peers.py [--threads 2] [--rounds 7] [--networks unet,decoder] [--engines ours-fp32,...] [--out FOLDER]

Writes peers.md and peers.csv. Every engine is a process that keeps its network loaded and sleeps between its turns; a round
gives each of them one turn. Weights are random (seeded): time, memory and agreement with PyTorch are real, quality is none.
"""
import argparse
import csv
import datetime
import importlib.metadata
import json
import math
import os
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENGINES = ["ours-fp32", "ours-bf16", "ours-int8", "torch-fp32", "torch-bf16", "torch-compile-fp32", "torch-compile-bf16",
           "openvino-fp32", "openvino-bf16", "openvino-int8", "onnxruntime-fp32", "onnxruntime-int8"]
CANNOT = {"onnxruntime-bf16": "its CPU provider has no bf16 products on x86"}
PACKAGES = ["torch", "openvino", "nncf", "onnx", "onnxruntime", "numpy"]
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    pass


# ---- what the system knows -----------------------------------------------------------------------


def cpu_seconds(pid):
    """Of the process and of all its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def machine_seconds():
    """Of all processors, all processes, so far: (busy, stolen by the hypervisor)."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / TICKS, steal / TICKS


def peak_mebibytes(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def available_bytes():
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def forget_peak(pid):
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def machine():
    info = Path("/proc/cpuinfo").read_text().splitlines()
    field = lambda name: next((line.split(":", 1)[1].strip() for line in info if line.startswith(name)), "unknown")
    known = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8", "asimd")
    flags = set(field("flags").split()) | set(field("Features").split())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return (f"{field('model name')} (family {field('cpu family')}, model {field('model')}), {os.cpu_count()} processors, "
            f"{memory:.0f} GiB; {' '.join(f for f in known if f in flags)}")


def commit():
    git = lambda *a: subprocess.run(["git", "-C", ROOT, *a], capture_output=True, text=True).stdout.strip()
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" + changes" if git("status", "--short", "include") else "")


# ---- engines -------------------------------------------------------------------------------------


class Engine:
    """A worker process and what is known of it."""

    def __init__(self, name, network, a):
        self.name, self.network, self.a = name, network, a
        self.format = name.split("-")[-1]
        self.seconds, self.cpu, self.load, self.run = [], [], 0.0, 0.0
        self.executes = self.how = self.note = ""
        self.error = self.psnr = None
        self.process = None
        self.idle_cpu = self.idle_wall = 0.0

    def command(self, mode):
        if self.name.startswith("ours"):
            import networks
            return [self.a.program, self.network, "--weights", networks.weights_path(self.a.work, self.network),
                    "--inputs", networks.inputs_path(self.a.work, self.network), "--threads", self.a.threads,
                    "--format", self.format]
        return [sys.executable, HERE / "worker.py", mode, self.network, self.name, self.a.work, self.a.threads]

    def start(self, mode):
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self.a.threads), "PYTHONDONTWRITEBYTECODE": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(self.a.work / "inductor"),
            "THP_MEM_ALLOC_ENABLE": "1",  # PyTorch: large tensors on huge pages
            "KMP_BLOCKTIME": "0"}  # Intel's OpenMP would spin for 200 ms after a run; GNU's and TBB sleep by themselves
        self.log = open(self.a.work / f"{self.network}-{self.name}.log", "w")
        self.process = subprocess.Popen([str(x) for x in self.command(mode)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, text=True, env=environment)

    def prepare(self):
        if self.name.startswith("ours"):
            return
        self.start("prepare")
        answer = self.process.stdout.readline()
        if self.process.wait() != 0:
            raise Failed(answer.removeprefix("error ").strip() or f"preparing ended with {self.process.returncode}")

    def serve(self):
        import networks
        needed = 3 * networks.weights_path(self.a.work, self.network).stat().st_size + 2**30  # the file, a copy, a packed copy
        if available_bytes() < needed:
            raise Failed(f"not loaded: {needed / 2**30:.1f} GiB of memory should be free beside the other engines; name fewer")
        self.start("serve")
        about = json.loads(self.answer().removeprefix("ready "))
        self.executes, self.how = about["executes"], about.get("how", "")
        self.ask("time 1")
        self.load = peak_mebibytes(self.process.pid)
        forget_peak(self.process.pid)
        self.last = None

    def answer(self):
        line = self.process.stdout.readline().strip()
        if not line:
            raise Failed(f"the worker ended with {self.process.wait()}")
        if line.startswith("error "):
            raise Failed(line.removeprefix("error "))
        return line

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def turn(self):
        """One turn: times, and how much processor time others took meanwhile."""
        before, wall, (busy, stolen) = cpu_seconds(self.process.pid), time.perf_counter(), machine_seconds()
        if self.last is not None:
            self.idle_cpu += before - self.last[0]
            self.idle_wall += wall - self.last[1]
        self.seconds += [float(s) for s in self.ask(f"time {self.a.runs}").split()]
        busy_now, stolen_now = machine_seconds()
        after, end = cpu_seconds(self.process.pid), time.perf_counter()
        self.cpu.append((after - before) / self.a.runs)
        time.sleep(0.05)  # threads that spin for a moment after a run do it before the next engine's turn
        self.last = cpu_seconds(self.process.pid), time.perf_counter()
        return end - wall, max(0.0, busy_now - busy - (after - before)), stolen_now - stolen

    def compare(self, reference):
        import networks
        from safetensors.torch import load_file
        path = self.a.work / f"{self.network}-{self.name}-output.safetensors"
        self.ask(f"output {path}")
        y = load_file(path)["output"].double()
        path.unlink()
        difference = y - reference
        self.error = (difference.abs().max() / reference.abs().max()).item()
        span, noise = (reference.max() - reference.min()).item(), difference.square().mean().sqrt().item()
        self.psnr = 20 * math.log10(span / noise) if noise > 0 else math.inf

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        try:
            self.process.stdin.write("quit\n")
            self.process.stdin.close()
            self.process.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()

    def fail(self, error):
        self.note = "failed: " + str(error)
        self.seconds = []
        self.stop()


def progress(text):
    print(text, file=sys.stderr, flush=True)


def measure(network, a):
    """The engines with their times, and the machine's other load while they were timed."""
    from safetensors.torch import load_file
    import networks
    progress(f"{network}: weights")
    networks.prepare(a.work, network)
    reference = load_file(networks.reference_path(a.work, network))["output"].double()
    engines = [Engine(name, network, a) for name in a.engines]
    for e in engines:  # one after another: conversions need memory, and nothing is timed yet
        try:
            progress(f"{network}: prepare {e.name}")
            if e.name in CANNOT:
                raise Failed(CANNOT[e.name])
            e.prepare()
        except Failed as error:
            e.fail(error)
            progress(f"  {e.note}")
    wall = foreign = stolen = 0.0
    try:
        for e in engines:
            if e.note:
                continue
            try:
                progress(f"{network}: load {e.name}")
                e.serve()
                e.compare(reference)
            except Failed as error:
                e.fail(error)
                progress(f"  {e.note}")
        for r in range(a.rounds):
            running = [e for e in engines if not e.note]
            shift = r % max(1, len(running))
            for e in running[shift:] + running[:shift]:  # nobody always follows the same neighbour first or last
                try:
                    w, f, s = e.turn()
                    wall, foreign, stolen = wall + w, foreign + f, stolen + s
                except Failed as error:
                    e.fail(error)
            progress(f"{network}: round {r + 1} of {a.rounds}: " +
                     ", ".join(f"{e.name} {e.seconds[-1]:.3f}" for e in engines if e.seconds))
        for e in engines:
            if e.seconds:
                e.run = peak_mebibytes(e.process.pid)
    finally:
        for e in engines:
            e.stop()
    others = (foreign / wall / os.cpu_count(), stolen / wall / os.cpu_count()) if wall else (0.0, 0.0)
    return engines, others


# ---- the tables ----------------------------------------------------------------------------------


COLUMNS = ["engine", "median s", "quartiles", "fastest, slowest", "CPU s", "/ ours, same format", "/ ours, fp32", "largest error",
           "PSNR dB", "peak MiB: loading, running", "products in"]


def quartiles(times):
    return statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else [times[0]] * 3


def ratio(e, ours):
    return statistics.median(e.seconds) / statistics.median(ours.seconds) if ours is not None and e.seconds else None


def rows(results):
    for network, (engines, _) in results.items():
        ours = {e.format: e for e in engines if e.name.startswith("ours") and e.seconds}
        for e in engines:
            yield network, e, ratio(e, ours.get(e.format)), ratio(e, ours.get("fp32"))


def number(x, form):
    return "" if x is None else "equal" if math.isinf(x) else format(x, form)


def markdown(results, header):
    out = "\n".join(f"* {line}" for line in header) + "\n"
    network = None
    for name, e, same, fp32 in rows(results):
        if name != network:
            network = name
            out += f"\n### {name}\n\n| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|\n"
        if not e.seconds:
            out += f"| {e.name} | {e.note} |" + " |" * (len(COLUMNS) - 2) + "\n"
            continue
        q = quartiles(e.seconds)
        out += (f"| {e.name} | {q[1]:.3f} | {q[0]:.3f} to {q[2]:.3f} | {min(e.seconds):.3f}, {max(e.seconds):.3f} | "
                f"{statistics.median(e.cpu):.2f} | {number(same, '.2f')} | {number(fp32, '.2f')} | {e.error:.1e} | "
                f"{number(e.psnr, '.1f')} | "
                f"{e.load:.0f}, {e.run:.0f} | {e.executes} |\n")
    how = sorted({(e.name, e.how) for engines, _ in results.values() for e in engines if e.how})
    return out + "\nHow: " + "; ".join(f"{n}: {h}" for n, h in how) + ".\n" if how else out


def write_csv(path, results):
    with open(path, "w", newline="") as f:
        w = csv.writer(f)
        w.writerow(["network", "engine", "format", "median_seconds", "fastest", "quartile_1", "quartile_3", "slowest",
                    "cpu_seconds", "ratio_to_ours_same_format", "ratio_to_ours_fp32", "largest_relative_error", "psnr_db",
                    "load_peak_mib", "run_peak_mib", "idle_cpu_share", "products_in", "how", "note", "seconds"])
        for name, e, same, fp32 in rows(results):
            q = [f"{x:.6f}" for x in ((lambda q: (q[1], min(e.seconds), q[0], q[2], max(e.seconds)))(quartiles(e.seconds))
                                      if e.seconds else [])] or [""] * 5
            idle = e.idle_cpu / e.idle_wall if e.idle_wall else None
            cpu = statistics.median(e.cpu) if e.seconds else None
            w.writerow([name, e.name, e.format, *q, number(cpu, ".3f"), number(same, ".4f"), number(fp32, ".4f"),
                        number(e.error, ".3e"), number(e.psnr, ".2f"), number(e.load or None, ".1f"),
                        number(e.run or None, ".1f"), number(idle, ".4f"), e.executes, e.how, e.note,
                        " ".join(f"{s:.6f}" for s in e.seconds)])


def built(program):
    """When our side was built, and whether its headers have changed since."""
    if not program.exists():
        return ""
    when = program.stat().st_mtime
    stale = any(p.stat().st_mtime > when for p in (ROOT / "include").rglob("*.hpp"))
    return f", bench_peers of {datetime.datetime.fromtimestamp(when):%Y-%m-%d %H:%M}" + " (older than the headers)" * stale


def describe(results, a):
    idle = [e.idle_cpu / e.idle_wall for engines, _ in results.values() for e in engines if e.idle_wall]
    header = [
        f"{datetime.date.today().isoformat()}, commit {commit()}{built(a.program)}",
        f"{a.threads} threads, {a.rounds} rounds of {a.runs} run{'s' * (a.runs != 1)} each, engines in turn",
        f"machine: {machine()}",
        "versions: " + ", ".join(f"{p} {version(p)}" for p in PACKAGES) + f", Python {sys.version.split()[0]}",
        "largest error: largest difference from PyTorch's fp32 output over its largest number; PSNR over that output's range",
        "CPU s: processor time of a run, all threads together, theirs that wait by spinning included",
        "peak: resident memory (VmHWM) up to the first runs, and of the timed runs alone; mapped files count"]
    for network, (_, (foreign, stolen)) in results.items():
        header.append(f"{network}: while engines were timed, others took {100 * foreign:.0f} % of the machine, "
                      f"the hypervisor {100 * stolen:.0f} %")
    if idle:
        header.append(f"between its turns an engine used at most {100 * max(idle):.1f} % of a processor")
    return header


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: [x for x in text.split(",") if x]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path(tempfile.gettempdir())) / "mobilediffusion-peers"
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--runs", type=int, default=1, help="of a turn, each timed")
    p.add_argument("--networks", type=names, default=["unet", "decoder"])
    p.add_argument("--engines", type=names, default=ENGINES, help="of " + ",".join(ENGINES))
    p.add_argument("--program", type=Path, default=ROOT / "build-bench/bench/bench_peers", help="our side, built")
    p.add_argument("--work", type=Path, default=cache, help="weights and converted models; about 8 GB, kept")
    p.add_argument("--out", type=Path, default=Path("."), help="folder of peers.md and peers.csv")
    a = p.parse_args()
    unknown = [x for x in a.engines if x not in ENGINES and x not in CANNOT] + \
              [x for x in a.networks if x not in ("unet", "decoder")]
    if unknown:
        p.error("unknown: " + ", ".join(unknown))
    if any(e.startswith("ours") for e in a.engines) and not a.program.exists():
        p.error("--program: no such file: build the target bench_peers (preset bench)")
    a.work, a.program = a.work.resolve(), a.program.resolve()
    return a


def main():
    a = arguments()
    results = {}
    a.out.mkdir(parents=True, exist_ok=True)
    for network in a.networks:
        results[network] = measure(network, a)
        text = markdown(results, describe(results, a))  # after each network: a run that is cut off leaves what it has
        (a.out / "peers.md").write_text(text)
        write_csv(a.out / "peers.csv", results)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
