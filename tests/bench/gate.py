"""What the project promises about its speed, checked against results: ratios within one run, on two processors."""
import dataclasses

PYTHON = ("PyTorch", "PyTorch, tuned", "PyTorch, compiled")
PYTORCH = (*PYTHON, "libtorch C++")
LOSS = ("PyTorch", "PyTorch, compiled", "JAX")
CNN_FLOPS = 2 * (2 * 26**2 * 9 * 32 + 3 * (24**2 * 9 * 32 * 64 + 9216 * 128 + 1280))  # of an image, direct form


@dataclasses.dataclass
class Check:
    words: str
    least: float
    value: float = None  # None: not measured
    sure: bool = True  # no figure in it is of disturbed bursts only

    @property
    def kept(self):
        return self.value is None or self.value >= self.least

    def __str__(self):
        return f"{self.words}: {'' if self.sure else '~'}{self.value:.2f}, promised {self.least:g}"


def count(threads):
    return "1 thread" if threads == 1 else f"{threads} threads"


class Figures:
    """Makes checks of results; those with a figure that was not measured are without a value."""

    def __init__(self, results):
        self.rows = {(row["table"], row["row"], row["threads"], row["contender"]): row for row in results["rows"]}

    def check(self, words, least, places, value):
        """places: (table, row, threads, contender)...; value is called with their results."""
        rows = [self.rows.get(place) for place in places]
        if None in rows:
            return Check(words, least)
        return Check(words, least, value(*rows), all(row["accepted"] for row in rows))

    def times_faster(self, table, row, threads, rivals, least):
        names = rivals[0] if len(rivals) == 1 else f"the fastest of {'; '.join(rivals)}"
        places = [(table, row, threads, name) for name in ("ours", *rivals)]
        return self.check(f"{table}, {row}, {count(threads)}: times {names}", least, places,
                          lambda ours, *others: min(other["seconds"] for other in others) / ours["seconds"])

    def share(self, table, row, threads, of, least):
        limit = "copy" if of == "bytes" else "peak"
        return self.check(f"{table}, {row}, {count(threads)}: share of the {limit}", least,
                          [(table, row, threads, "ours")], lambda ours: ours[of] / ours["seconds"] / ours[f"peak_{of}"])


def checks(results):
    figures = Figures(results)
    for layer in "784-512", "512-256":
        for way in "forward", "dX", "dW":
            for threads, least in (1, 0.9), (2, 0.85):
                yield figures.share("gemm", f"{layer}, {way}", threads, "flops", least)

    for threads, least in (1, 1.2), (2, 1.25):
        yield figures.times_faster("mlp", "batch 64, Adam", threads, PYTORCH, least)
        yield figures.times_faster("mlp", "batch 64, Adam", threads, ("JAX, 16 steps",), 1)
    for threads, least in (1, 1), (2, 1.1):
        yield figures.times_faster("mlp", "batch 256, Adam", threads, (*PYTORCH, "JAX", "JAX, 16 steps"), least)

    for threads in 1, 2:
        for rivals, least in (("libtorch C++",), 1.65), (PYTHON, 2.3), (("JAX, 16 steps",), 1.25):
            yield figures.times_faster("small", "batch 32, Adam", threads, rivals, least)

    for batch, least in (64, 3.2), (256, 3.4):
        row = f"batch {batch}, Adam"
        for threads in 1, 2:
            yield figures.times_faster("cnn", row, threads, PYTORCH, least)
            yield figures.check(f"cnn, {row}, {count(threads)}: times the peak, were it the direct form", 1.8,
                                [("cnn", row, threads, "ours")],
                                lambda ours: ours["images"] * CNN_FLOPS / ours["seconds"] / ours["peak_flops"])
        yield figures.check(f"cnn, {row}: two threads, times one", 1.8, [("cnn", row, n, "ours") for n in (1, 2)],
                            lambda one, two: one["seconds"] / two["seconds"])

    for row, least in ("[8192, 1000] f32", 2.2), ("[65536, 10] f32", 3):
        yield figures.times_faster("loss", row, 2, LOSS, least)
    for row, least in ("[4096, 32000] f32", 0.8), ("[4096, 32000] bf16", 0.6):
        yield figures.share("loss", row, 2, "bytes", least)

    for name, most in ("04_mnist_mlp", 2), ("05_mnist_cnn", 13):
        yield figures.check(f"program, {name}, 2 threads: parts of {most} s", 1, [("program", name, 2, "ours")],
                            lambda ours, most=most: most / ours["seconds"])


def report(results):
    """Returns (lines to print, whether all that was measured holds and something was)."""
    made = list(checks(results))
    short, unknown = [check for check in made if not check.kept], [check for check in made if check.value is None]
    kept = len(made) - len(short) - len(unknown)
    lines = [f"{kept} of {len(made)} promises hold, {len(short)} fall short, {len(unknown)} were not measured."]
    lines += [f"  short: {check}" for check in short]
    tables = {row["table"] for row in results["rows"]}
    lines += [f"  not measured: {check.words}" for check in unknown if check.words.split(",")[0] in tables]
    return lines, kept > 0 and not short
