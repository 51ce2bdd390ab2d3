"""What the peers share: the data, and the protocol that serve.cpp describes."""
import functools
import gzip
import pathlib
import sys
import time

import numpy

FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")


@functools.cache
def data(split="train"):
    """Images [n, 784], f32, and labels [n], i32: Fashion-MNIST's "train" or "t10k", or noise where it is not there."""
    if not FOLDER.is_dir():
        random = numpy.random.default_rng(1)
        count = 20000 if split == "train" else 4000
        return random.random((count, 784), numpy.float32), random.integers(0, 10, count, numpy.int32)
    images, labels = (numpy.frombuffer(gzip.open(FOLDER / f"{split}-{name}-ubyte.gz").read(), numpy.uint8)
                      for name in ("images-idx3", "labels-idx1"))
    images = numpy.divide(images[16:], 255, dtype=numpy.float32)
    return images.reshape(-1, 784), labels[8:].astype(numpy.int32)


def batches_of(count, batch):
    """Indices [batches, batch] of a shuffled epoch."""
    order = numpy.random.default_rng(1).permutation(count)
    return order[: count // batch * batch].reshape(-1, batch)


def serve(version, make_work, finish=lambda: None):
    """Answers "STEPS WORK..." with seconds per step. make_work(words) returns (step, steps that one call makes)."""
    print("READY", version, flush=True)
    last = step = None
    for line in sys.stdin:
        steps, *words = line.split()
        if words != last:
            step = None  # its memory first
            step, per_call = make_work(words)
            step()
            last = words
        calls = max(1, int(steps) // per_call)
        step()
        finish()
        start = time.perf_counter()
        for _ in range(calls):
            step()
        finish()
        print(f"{(time.perf_counter() - start) / (calls * per_call):.9g}", flush=True)
