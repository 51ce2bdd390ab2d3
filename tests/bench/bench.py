"""Measures xent beside PyTorch and JAX and prints tables; started by tests/bench/run, which see."""
import argparse
import datetime
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys

import bursts
import tables

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def options():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__.split(";")[0])
    parser.add_argument("--only", metavar="NAME", choices=tables.TABLES, action="append",
                        help=f"one of {', '.join(tables.TABLES)}; may be repeated")
    parser.add_argument("--quick", action="store_true", help="three bursts, not nine; trains batch 64 and Adam only")
    parser.add_argument("--threads", type=int, action="append", help="1 and 2 unless given; may be repeated")
    parser.add_argument("--burst", type=float, metavar="SECONDS", default=0.02,
                        help="length of a burst, if more than a step; short ones slip through between disturbances")
    parser.add_argument("--update-docs", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--serve", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--tuned", default="", help=argparse.SUPPRESS)  # libraries to preload into PyTorch
    parser.add_argument("--json", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


class Runs:
    """The programs of one thread count, started when they are first needed; those of one table at a time."""

    def __init__(self, options, threads):
        self.options, self.threads = options, threads
        self.machine = bursts.Machine(options.serve, threads)
        self.programs, self.versions = {}, set()

    def program(self, contender):
        if contender not in self.programs:
            words = [self.options.serve, self.threads]
            if contender.script:
                words = [sys.executable, HERE / contender.script, self.threads, contender.flags]
            environment = {"OMP_NUM_THREADS": str(self.threads), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
            if contender.memory == "kept":
                environment |= {"MALLOC_MMAP_THRESHOLD_": "17179869184", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
            elif contender.memory == "tcmalloc":
                environment["LD_PRELOAD"] = self.options.tuned
            self.programs[contender] = bursts.Program(words, self.threads, environment)
            self.versions.add(self.programs[contender].version)
        return self.programs[contender]

    def measure(self, row, rounds, length):
        programs = {contender.name: self.program(contender) for contender in row.contenders}
        return bursts.take_turns(self.machine, programs, row.work, rounds, length, row.memory_bound)

    def end_table(self):
        for program in self.programs.values():
            program.stop()  # for its memory
        self.programs.clear()


def first_line(path, key):
    lines = pathlib.Path(path).read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), platform.machine())


def where_and_when(runs):
    gibibytes = round(int(first_line("/proc/meminfo", "MemTotal").split()[0]) / 2**20)
    revision = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    ours = next(iter(runs.values())).machine.flops.version
    peers = set().union(*(run.versions for run in runs.values())) - {ours}
    return {
        "date": datetime.date.today().isoformat(),
        "processor": first_line("/proc/cpuinfo", "model name"),
        "processors": os.cpu_count(),
        "memory_gib": gibibytes,
        "load": os.getloadavg()[1],
        "versions": [ours.replace("xent", f"xent {revision.stdout.strip()}", 1), *sorted(peers)],
    }


def noise(results):
    """What the reader has to know about how far to trust the tables."""
    where = results["where"]
    total, good = (sum(row[key] for row in results["rows"]) for key in ("bursts", "good"))
    peaks = "; ".join(
        f"{peak['threads']} thread{'s' * (peak['threads'] > 1)}: "
        f"{peak['flops'] / 1e9:.0f} GFLOP/s (median {peak['median_flops'] / peak['flops']:.0%} of that) and "
        f"{peak['bytes'] / 1e9:.0f} GB/s ({peak['median_bytes'] / peak['bytes']:.0%})" for peak in results["peaks"])
    return (f"At least {results['rounds']} bursts a figure; {good} of {total} ({good / total:.0%}) count. "
            f"The load average, the run itself included, was {where['load']:.1f} on {where['processors']} processors. "
            f"The best that was seen of the two limits, with "
            f"{peaks}. A figure with ~ had fewer than three undisturbed bursts, and is the median of all.")


def main():
    asked = options()
    names = asked.only or list(tables.TABLES)
    rounds = 3 if asked.quick else 9
    runs, rows = {}, []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    try:
        for name in names:
            for threads in asked.threads or [1, 2]:
                run = runs[threads] = runs.get(threads) or Runs(asked, threads)
                for row in tables.TABLES[name](asked.quick):
                    print(f"{name}, {row.title}, {threads} thread{'s' * (threads > 1)}", file=sys.stderr, flush=True)
                    rows.append((name, row, threads, run.measure(row, rounds, asked.burst)))
                run.end_table()
    except (KeyboardInterrupt, RuntimeError) as end:  # a program that died
        print(f"stopped, with the tables so far: {end!r}", file=sys.stderr)
    if not rows:
        sys.exit("nothing was measured")

    results = {"rounds": rounds, "where": where_and_when(runs), "peaks": [], "rows": []}
    for threads, run in runs.items():
        flops, copied = zip(*run.machine.seen)
        results["peaks"].append({"threads": threads, "flops": max(flops), "bytes": max(copied),
                                 "median_flops": statistics.median(flops), "median_bytes": statistics.median(copied)})
    for name, row, threads, taken in rows:
        results["rows"] += tables.summarise(name, row, threads, taken, runs[threads].machine)

    pathlib.Path(asked.json).write_text(json.dumps(results, indent=1) + "\n")
    text = tables.print_all(results, noise(results))
    print(text)
    if asked.update_docs:
        page = ROOT / "docs/performance.md"
        before, _, rest = page.read_text().partition("<!-- measured -->\n")
        _, _, after = rest.partition("<!-- end -->")
        page.write_text(f"{before}<!-- measured -->\n{text}\n<!-- end -->{after}")
        (ROOT / "docs/performance.json").write_text(json.dumps(results, indent=1) + "\n")


main()
