"""Programs that take turns: each works in short bursts, and stands still (SIGSTOP) while the others do.

Before and after a burst the multiply-add peak of the processor and the bandwidth of its memory are measured. A burst
counts if it was not disturbed: if the peak was at least 95 % of the best that was seen in the whole run, and others
did not take the processors from the program for more than 5 % of the time.
"""
import atexit
import dataclasses
import os
import pathlib
import random
import re
import resource
import signal
import statistics
import subprocess
import time

GOOD = 0.95


def start(command, threads, environment, stdin=subprocess.DEVNULL):
    """Starts a program on the last so many processors."""
    # A process group of its own, which the kernel ends if this process does: it is not left standing still.
    here = sorted(os.sched_getaffinity(0))
    return subprocess.Popen(
        command, env={**os.environ, **environment}, text=True,
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: (os.setpgrp(), os.sched_setaffinity(0, here[-threads:])))


def died(command, environment):
    words = [*(f"{name}={value}" for name, value in environment.items()), *command]
    return RuntimeError(f"'{' '.join(words)}' ended; run it by hand to see why")


def children_worked():
    """Seconds of processor time of the programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Program:
    """A process that answers "STEPS WORK" with seconds per step, as serve.cpp describes."""

    def __init__(self, command, threads, environment):
        self.died = died(command, environment)
        self.process = start(command, threads, environment, subprocess.PIPE)
        atexit.register(self.stop)
        self.version = self._answer().removeprefix("READY").strip()
        self._signal(signal.SIGSTOP)

    def seconds(self, work, steps):
        self._signal(signal.SIGCONT)
        print(steps, work, file=self.process.stdin, flush=True)
        answer = float(self._answer())
        self._signal(signal.SIGSTOP)
        return answer

    def times(self):
        """Seconds that its threads worked, and that they were ready but had no processor."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        worked, waited, _ = zip(*(map(int, task.read_text().split()) for task in tasks))
        return sum(worked) * 1e-9, sum(waited) * 1e-9

    def stop(self):
        if self.process.poll() is None:
            self._signal(signal.SIGKILL)
            self.process.wait()

    def _signal(self, number):
        os.killpg(self.process.pid, number)

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise self.died
        return line


@dataclasses.dataclass
class Burst:
    seconds: float  # per step
    flops: float  # the peak beside it, per second: the lower of before and after
    bytes: float  # copied beside it, read and written, per second
    waited: float  # share of the time that others took
    accuracy: float = None  # in percent, of a whole program


class Machine:
    """What the machine could do, measured beside every burst with so many threads."""

    def __init__(self, serve, threads):
        self.threads = threads
        self.flops, self.copy = (Program([str(serve), str(threads)], threads, {}) for _ in range(2))
        self.seen = [self.look() for _ in range(30)]

    def look(self):
        return 1e7 / self.flops.seconds("fma", 10), 2**27 / self.copy.seconds("copy", 1)

    def best(self):
        return max(flops for flops, _ in self.seen), max(copied for _, copied in self.seen)

    def wait(self):
        """Measures until nobody disturbs, but no longer than a moment."""
        for _ in range(10):
            self.seen.append(self.look())
            if self.seen[-1][0] >= GOOD * self.best()[0]:
                break
            time.sleep(0.01)
        return self.seen[-1]

    def burst(self, program, work, steps):
        before = self.wait()
        times, began = program.times(), time.perf_counter()
        seconds = program.seconds(work, steps)
        spent = time.perf_counter() - began
        worked, waited = (now - then for now, then in zip(program.times(), times))
        self.seen.append(after := self.look())
        return Burst(seconds, *map(min, before, after), self.lost(spent, worked, waited))

    def lost(self, spent, worked, waited):
        """The share that others took. A thread that waits while others of its program work loses nothing."""
        return max(0, min(waited, self.threads * spent - worked)) / spent

    def whole_run(self, command, environment):
        """Runs a program that trains from its start to its end, and prints its test accuracy."""
        before, worked, began = self.wait(), children_worked(), time.perf_counter()
        process = start(command, self.threads, environment)
        try:
            output = process.stdout.read()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # what its first thread waited is still there
            spent = time.perf_counter() - began
            waited = int(pathlib.Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) * 1e-9
        except BaseException:
            process.kill()
            raise
        accuracy = re.search(r"test accuracy ([0-9.]+) %", output)
        if process.wait() != 0 or not accuracy:
            raise died(command, environment)
        lost = self.lost(spent, children_worked() - worked, waited)
        self.seen.append(after := self.look())
        return Burst(spent, *map(min, before, after), lost, float(accuracy[1]))

    def accepted(self, bursts, memory_bound):
        flops, copied = self.best()
        return [burst for burst in bursts if burst.flops >= GOOD * flops and burst.waited <= 1 - GOOD
                and (not memory_bound or burst.bytes >= GOOD * copied)]


def steps_of(program, work, length):
    """Builds and compiles the work, and returns how many of its steps take so many seconds."""
    return max(1, round(length / min(program.seconds(work, 1) for _ in range(2))))


def take_turns(machine, burst_of, rounds, tries, memory_bound):
    """burst_of: {name: function}. Returns {name: bursts}, `rounds` good ones each if so many tries yield them."""
    bursts = {name: [] for name in burst_of}
    for _ in range(tries):
        for name in random.sample(list(burst_of), len(burst_of)):
            bursts[name].append(burst_of[name]())
        if all(len(machine.accepted(list_, memory_bound)) >= rounds for list_ in bursts.values()):
            break
    return bursts


def median_and_spread(values):
    """The median, and half the distance of the quartiles relative to it."""
    middle = statistics.median(values)
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (middle,) * 3
    return middle, (high - low) / 2 / middle
