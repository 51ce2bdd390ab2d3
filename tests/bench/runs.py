"""The programs of one thread count."""
import functools
import pathlib
import shutil
import sys

import bursts

HERE = pathlib.Path(__file__).resolve().parent


class Runs:
    """Starts programs when they are first needed, and keeps them for the rows of one table."""

    def __init__(self, threads, build, tuned):
        self.threads, self.build, self.tuned = threads, build, tuned
        self.programs, self.versions = {}, set()

    @functools.cached_property
    def machine(self):
        return bursts.Machine(self.build / "bin/bench_serve", self.threads)

    def command(self, contender, row):
        """Its words, or none if there is no such program."""
        words = [word.format(threads=self.threads, row=row.title, build=self.build, here=HERE, python=sys.executable)
                 for word in contender.command.split()]
        return words if shutil.which(words[0]) else None

    def environment(self, contender):
        # What is compiled is kept: for each thread count by itself, because it is compiled for so many threads.
        cache = self.build / f"cache/{self.threads}"
        environment = {
            "OMP_NUM_THREADS": str(self.threads), "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torch", "JAX_COMPILATION_CACHE_DIR": f"{cache}/jax",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        if contender.memory == "kept":
            environment |= {"MALLOC_MMAP_THRESHOLD_": "17179869184", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
        elif contender.memory == "tcmalloc":
            environment["LD_PRELOAD"] = self.tuned
        return environment

    def program(self, contender, row):
        if contender not in self.programs:
            program = bursts.Program(self.command(contender, row), self.threads, self.environment(contender))
            self.programs[contender] = program
            self.versions.add(program.version)
        return self.programs[contender]

    def contenders(self, row):
        return [contender for contender in row.contenders if self.command(contender, row)]

    def warm(self, row):
        """Starts and compiles all that a row needs."""
        for contender in self.contenders(row):
            if row.whole:
                continue
            self.program(contender, row).seconds(row.work, 1)

    def measure(self, row, rounds, length):
        """Returns {contender's name: bursts}."""
        if row.whole:
            once = {contender.name: functools.partial(self.machine.whole_run, self.command(contender, row),
                                                      self.environment(contender))
                    for contender in self.contenders(row)}
            return bursts.take_turns(self.machine, once, 3, 3, row.memory_bound)  # a minute or two each
        once = {}
        for contender in self.contenders(row):
            program = self.program(contender, row)
            steps = bursts.steps_of(program, row.work, length)
            once[contender.name] = functools.partial(self.machine.burst, program, row.work, steps)
        return bursts.take_turns(self.machine, once, rounds, 3 * rounds, row.memory_bound)

    def end_table(self):
        for program in self.programs.values():
            program.stop()  # for its memory
        self.programs.clear()
