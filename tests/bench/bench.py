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

import gate
import tables
from progress import Progress
from runs import Runs

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def options():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__.split(";")[0])
    parser.add_argument("--only", metavar="NAME", choices=tables.TABLES, action="append",
                        help=f"one of {', '.join(tables.TABLES)}; may be repeated")
    parser.add_argument("--quick", action="store_true", help="three bursts, not nine; trains batch 64 and Adam only")
    parser.add_argument("--threads", type=int, action="append", help="1 and 2 unless given; may be repeated")
    parser.add_argument("--burst", type=float, metavar="SECONDS", default=0.02,
                        help="length of a burst, if more than a step; short ones slip through between disturbances")
    parser.add_argument("--warm", action="store_true", help="only start all peers once: what they compile is kept")
    parser.add_argument("--add", action="store_true", help="keep the last results of the rows not measured now")
    parser.add_argument("--gate", action="store_true", help="exit with 1 if a promise about the speed is not kept")
    parser.add_argument("--update-docs", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--build", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--tuned", default="", help=argparse.SUPPRESS)  # libraries to preload into PyTorch
    return parser.parse_args()


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
    several = f" The tables come from {results['runs']} runs; load and limits are the last one's."
    return (f"At least {results['rounds']} bursts a figure; {good} of {total} ({good / total:.0%}) count. "
            f"The load average, the run itself included, was {where['load']:.1f} on {where['processors']} processors. "
            f"The best that was seen of the two limits, with "
            f"{peaks}. A figure with ~ had fewer than three undisturbed bursts, and is the median of all."
            f"{several if results['runs'] > 1 else ''}")


def measure(asked, work, runs, rounds):
    """Goes through all rows. Returns [(table, row, threads, bursts)]: those that it got to."""
    kind = "warm" if asked.warm else f"{rounds} bursts of {asked.burst} s"
    guesses = {f"{name}, {row.title}, {threads} thread{'s' * (threads > 1)}": tables.SECONDS[name] * rounds / 9
               for name, threads, row in work}
    progress, rows, last = Progress(asked.build / "durations.json", kind, guesses), [], None
    try:
        for name, threads, row in work:
            if last and last != (name, threads):
                runs[last[1]].end_table()
            last = name, threads
            progress.begin()
            if asked.warm:
                runs[threads].warm(row)
            else:
                rows.append((name, row, threads, runs[threads].measure(row, rounds, asked.burst)))
            progress.end()
    except (KeyboardInterrupt, RuntimeError) as end:  # a program that died
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is there shall be written
        print(f"stopped, with what was done so far: {end!r}", file=sys.stderr)
        if asked.warm:
            sys.exit(1)
    return rows


def summary(runs, rounds, rows):
    results = {"rounds": rounds, "runs": 1, "where": where_and_when(runs), "peaks": [], "rows": []}
    for threads, run in runs.items():
        flops, copied = zip(*run.machine.seen)
        results["peaks"].append({"threads": threads, "flops": max(flops), "bytes": max(copied),
                                 "median_flops": statistics.median(flops), "median_bytes": statistics.median(copied)})
    for name, row, threads, taken in rows:
        results["rows"] += tables.summarise(name, row, threads, taken, runs[threads].machine)
    return results


def added(old, new):
    """The new results, and of the old ones the rows that are not among them."""
    def place(row):
        return row["table"], row["threads"], row["row"]

    measured = {place(row) for row in new["rows"]}
    rows = [row for row in old["rows"] if place(row) not in measured] + new["rows"]
    threads = sorted({row["threads"] for row in rows})
    order = [(name, count, row.title) for name, count, row in tables.work(tables.TABLES, threads, quick=False)]
    new["rows"] = sorted(rows, key=lambda row: order.index(place(row)))
    looked = {peak["threads"] for peak in new["peaks"]}
    new["peaks"] += [peak for peak in old["peaks"] if peak["threads"] not in looked]
    new["where"]["versions"] = list(dict.fromkeys(new["where"]["versions"] + old["where"]["versions"]))
    new["runs"] += old["runs"]
    return new


def main():
    asked = options()
    rounds = 3 if asked.quick else 9
    work = tables.work(asked.only or tables.TABLES, asked.threads or [1, 2], asked.quick)
    runs = {threads: Runs(threads, asked.build, asked.tuned) for _, threads, _ in work}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    for missing in sorted({contender.name for _, threads, row in work for contender in row.contenders
                           if not runs[threads].command(contender, row)}):
        print(f"going on without {missing}", file=sys.stderr)
    rows = measure(asked, work, runs, rounds)
    if asked.warm:
        return
    if not rows:
        sys.exit("nothing was measured")

    file = asked.build / "results.json"
    results = summary({threads: run for threads, run in runs.items() if "machine" in vars(run)}, rounds, rows)
    if asked.add and file.exists():
        results = added(json.loads(file.read_text()), results)
    file.write_text(json.dumps(results, indent=1) + "\n")
    text = tables.print_all(results, noise(results))
    print(text)
    if asked.update_docs:
        page = ROOT / "docs/performance.md"
        before, _, rest = page.read_text().partition("<!-- measured -->\n")
        _, _, after = rest.partition("<!-- end -->")
        page.write_text(f"{before}<!-- measured -->\n{text}\n<!-- end -->{after}")
        (ROOT / "docs/performance.json").write_text(json.dumps(results, indent=1) + "\n")
    if asked.gate:
        lines, kept = gate.report(results)
        print("", *lines, sep="\n")
        if not kept:
            sys.exit(1)
    if len(rows) < len(work):
        sys.exit(1)


main()
