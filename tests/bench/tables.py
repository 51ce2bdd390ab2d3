"""What is measured, with whom beside it, and how it is printed."""
import dataclasses
import statistics

from bursts import median_and_spread


@dataclasses.dataclass(frozen=True)
class Contender:
    name: str
    command: str  # {threads}, {row} and the folders are put in
    memory: str = ""  # tcmalloc is preloaded, or glibc's malloc is told to keep what is freed


@dataclasses.dataclass(frozen=True)
class Row:
    title: str
    work: str  # as the programs understand it
    contenders: tuple
    flops: float = 0  # of a step, where the peak is the limit
    bytes: float = 0  # read and written at least in a step, where memory is
    images: int = 0  # per step
    whole: bool = False  # the contenders are programs that run once and end

    @property
    def memory_bound(self):
        return self.bytes > 0


TORCH = "{python} {here}/torch_peer.py {threads} "
XLA = "{python} {here}/jax_peer.py {threads} "
OURS = Contender("ours", "{build}/bin/bench_serve {threads}")
EAGER = Contender("PyTorch", TORCH + "plain")
FUSED = Contender("PyTorch, tuned", TORCH + "fused,channels_last", "tcmalloc")
COMPILED = Contender("PyTorch, compiled", TORCH + "compiled,channels_last", "tcmalloc")
LIBTORCH = Contender("libtorch C++", "{build}/libtorch_peer {threads}", "tcmalloc")
LOSS_EAGER = Contender("PyTorch", TORCH + "plain", "kept")
LOSS_COMPILED = Contender("PyTorch, compiled", TORCH + "compiled", "kept")
JAX = Contender("JAX", XLA + "1")
JAX_16 = Contender("JAX, 16 steps", XLA + "16")
LOSS_JAX = Contender("JAX", XLA + "1", "kept")
OUR_PROGRAM = Contender("ours", "{build}/bin/{row} --epochs 1 --quiet --threads {threads}")
TORCH_PROGRAM = Contender("PyTorch, tuned", "{python} {here}/torch_program.py {row} {threads}", "tcmalloc")
JAX_PROGRAM = Contender("JAX", "{python} {here}/jax_program.py")


def gemm(quick):
    for into, out in (784, 512), (512, 256):
        for way, (m, n, k, kind) in {"forward": (64, out, into, "nn"), "dX": (64, into, out, "nt"),
                                     "dW": (into, out, 64, "tn")}.items():
            yield Row(f"{into}-{out}, {way}", f"gemm {m} {n} {k} {kind}", (OURS, FUSED), flops=2 * m * n * k)


def conv(quick):
    for extent, into, out in (28, 1, 32), (26, 32, 64):
        forward = 2 * 64 * (extent - 2) ** 2 * 9 * into * out
        for way, flops in ("forward", forward), ("backward", forward * (2 if into > 1 else 1)):
            yield Row(f"{into}-{out}, {extent} x {extent}, {way}", f"conv {way} 64 {extent} {into} {out}",
                      (OURS, FUSED), flops=flops)


def loss(quick):
    for rows, classes, dtype in ((65536, 10, "f32"), (8192, 1000, "f32"), (8192, 1000, "bf16"), (4096, 32000, "f32"),
                                 (4096, 32000, "bf16")):
        yield Row(f"[{rows}, {classes}] {dtype}", f"loss {rows} {classes} {dtype} in_place",
                  (OURS, LOSS_EAGER, LOSS_COMPILED, LOSS_JAX), bytes=2 * rows * classes * (2 if dtype == "bf16" else 4))


def train(kind):
    # XLA compiles a convolution inside of a scan to a loop many times slower.
    contenders = (OURS, EAGER, FUSED, COMPILED, LIBTORCH, JAX) + ((JAX_16,) if kind != "cnn" else ())

    def rows(quick):
        for rule in ("adam",) if quick else ("adam", "sgd"):
            for batch in (64,) if quick else (32, 64, 256):
                yield Row(f"batch {batch}, {rule.capitalize() if rule == 'adam' else 'SGD'}", f"{kind} {batch} {rule}",
                          contenders, images=batch)

    return rows


def program(quick):
    yield Row("04_mnist_mlp", "one epoch", (OUR_PROGRAM, TORCH_PROGRAM, JAX_PROGRAM), whole=True)
    yield Row("05_mnist_cnn", "one epoch", (OUR_PROGRAM, TORCH_PROGRAM), whole=True)  # JAX: longer than PyTorch


TABLES = {"gemm": gemm, "conv": conv, "loss": loss, "mlp": train("mlp"), "small": train("small"), "cnn": train("cnn"),
          "program": program}


def work(names, threads, quick):
    """Returns [(table, threads, row)] in the order in which they are measured."""
    return [(name, count, row) for name in names for count in threads for row in TABLES[name](quick)]


# What a row takes, about, with nine bursts on two quiet processors.
SECONDS = {"gemm": 3, "conv": 5, "loss": 25, "mlp": 15, "small": 15, "cnn": 60, "program": 120}

HEADINGS = {
    "gemm": "Products of the MLP, batch 64",
    "conv": "Convolutions of the CNN, 3 x 3, batch 64",
    "loss": "The loss and its gradient, in place",
    "mlp": "Training 784-512-256-10",
    "small": "Training 784-128-10",
    "cnn": "Training the CNN of PyTorch's MNIST example",
    "program": "Whole programs: one epoch, from the start to the test accuracy",
}


def summarise(table, row, threads, taken, machine):
    """One dictionary per contender."""
    for contender, bursts in taken.items():
        good = machine.accepted(bursts, row.memory_bound)
        used = good if len(good) >= 3 else bursts
        seconds, spread = median_and_spread([burst.seconds for burst in used])
        yield {
            "table": table, "row": row.title, "threads": threads, "contender": contender,
            "seconds": seconds, "spread": spread, "all_seconds": [burst.seconds for burst in bursts],
            "good": len(good), "bursts": len(bursts), "accepted": used is good,
            "flops": row.flops, "bytes": row.bytes, "images": row.images,
            "peak_flops": statistics.median(burst.flops for burst in used),
            "peak_bytes": statistics.median(burst.bytes for burst in used),
            "accuracy": statistics.median(burst.accuracy for burst in used) if row.whole else None,
        }


def time(seconds):
    if seconds > 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e6:.0f} us" if seconds < 0.01 else f"{seconds * 1e3:.1f} ms"


def achieved(result):
    """What our time means: images a second, test accuracy, or the share of what the machine can do."""
    if result["accuracy"]:
        return f"{result['accuracy']:.1f} % right"
    if result["images"]:
        return f"{result['images'] / result['seconds']:.0f} images/s"
    kind, name = ("bytes", "copy") if result["bytes"] else ("flops", "peak")
    return f"{result[kind] / result['seconds'] / result['peak_' + kind]:.0%} of {name}"


def mark(result):
    return "" if result["accepted"] else "~"


def beside(result, ours):
    times = f"{mark(result)}{result['seconds'] / ours['seconds']:.2f} ± {result['spread']:.0%}"
    return f"{times}, {achieved(result)}" if result["accuracy"] else times


def print_table(results):
    contenders = list(dict.fromkeys(result["contender"] for result in results))
    lines = [["", "threads", *contenders[:1], "that is", *contenders[1:], "FMA, GFLOP/s", "copy, GB/s"]]
    lines.append(["---"] * len(lines[0]))
    for place in dict.fromkeys((result["row"], result["threads"]) for result in results):
        row = {result["contender"]: result for result in results if (result["row"], result["threads"]) == place}
        ours = row["ours"]
        others = [beside(row[name], ours) if name in row else "" for name in contenders if name != "ours"]
        lines.append([place[0], str(place[1]), f"{mark(ours)}{time(ours['seconds'])} ± {ours['spread']:.0%}",
                      achieved(ours), *others, f"{ours['peak_flops'] / 1e9:.0f}", f"{ours['peak_bytes'] / 1e9:.0f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def print_all(results, noise):
    where = results["where"]
    parts = [f"{where['date']}; {where['processor']}, {where['processors']} processors, {where['memory_gib']} GiB; "
             f"{'; '.join(where['versions'])}.", noise]
    for name in TABLES:
        chosen = [result for result in results["rows"] if result["table"] == name]
        if chosen:
            parts.append(f"### {HEADINGS[name]}\n\n{print_table(chosen)}")
    return "\n\n".join(parts)
