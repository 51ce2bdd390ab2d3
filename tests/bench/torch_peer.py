"""PyTorch's side of tests/bench/run: torch_peer.py THREADS FLAGS, with the protocol of serve.cpp.

FLAGS, joined by commas: fused (the optimizer's fused kernel), channels_last, compiled (one graph of a whole step).
The data is one float tensor, from which a step takes its batch: no DataLoader is measured.
"""
import gc
import itertools
import sys

import torch
import torch.nn.functional as F
from torch import nn

import peer
import torch_models

threads, flags = int(sys.argv[1]), set(sys.argv[2].split(","))
layout = torch.channels_last if "channels_last" in flags else torch.contiguous_format
torch.set_num_threads(threads)
torch.manual_seed(1)


def compiled(function):
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, dynamic=False)


def train(kind, batch, rule):
    images, labels = map(torch.from_numpy, peer.data())
    labels = labels.long()
    batches = itertools.cycle(torch.from_numpy(peer.batches_of(len(labels), int(batch))))
    model = torch_models.make(kind, layout)
    if "compiled" in flags:
        step = compiled_step(model, rule)
        return lambda: step(images, labels, next(batches))
    fused = {"fused": True} if "fused" in flags else {}
    if rule == "adam":
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, **fused)
    else:
        optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9, **fused)

    def step():
        index = next(batches)
        x, y = images.index_select(0, index), labels.index_select(0, index)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def compiled_step(model, rule):
    """Batch, forward, backward and update as one graph, the update written out: it fuses best so."""
    names = [name for name, _ in model.named_parameters()]
    weights = [weight.detach() for weight in model.parameters()]
    first, second = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    count = torch.zeros(())

    def loss(weights, x, y):
        return F.cross_entropy(torch.func.functional_call(model, dict(zip(names, weights)), (x,)), y)

    def step(images, labels, index):
        gradients = torch.func.grad(loss)(weights, images.index_select(0, index), labels.index_select(0, index))
        count.add_(1)
        for w, m, v, g in zip(weights, first, second, gradients):
            if rule == "adam":
                m.lerp_(g, 0.1)
                v.mul_(0.999).addcmul_(g, g, value=0.001)
                rate = 1e-3 / (1 - 0.9**count)
                w.sub_(rate * m / (v.sqrt() * (1 - 0.999**count).rsqrt() + 1e-8))
            else:
                m.mul_(0.9).add_(g)
                w.sub_(m, alpha=0.02)

    step = compiled(step)

    def without_grad(*arguments):
        with torch.no_grad():
            step(*arguments)

    return without_grad


def loss(rows, classes, dtype, _):
    logits = torch.randn(int(rows), int(classes)).to(torch.bfloat16 if dtype == "bf16" else torch.float32)
    labels = torch.randint(0, int(classes), (int(rows),))
    if "compiled" in flags:
        both = compiled(torch.func.grad_and_value(F.cross_entropy))
        return lambda: both(logits, labels)
    logits.requires_grad_(True)

    def step():
        logits.grad = None
        F.cross_entropy(logits, labels).backward()

    return step


def gemm(m, n, k, kind):
    m, n, k = int(m), int(n), int(k)
    a = torch.randn(k, m).t() if kind == "tn" else torch.randn(m, k)
    b = torch.randn(n, k).t() if kind == "nt" else torch.randn(k, n)
    c = torch.empty(m, n)
    return lambda: torch.mm(a, b, out=c)


def conv(way, batch, extent, into, out):
    layer = nn.Conv2d(int(into), int(out), 3).to(memory_format=layout)
    x = torch.randn(int(batch), int(into), int(extent), int(extent)).contiguous(memory_format=layout)
    if way == "forward":
        return torch.no_grad()(lambda: layer(x))
    wanted = list(layer.parameters()) + ([x.requires_grad_(True)] if int(into) > 1 else [])
    y = layer(x)
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)


def make_work(words):
    gc.collect()
    make = {"loss": loss, "gemm": gemm, "conv": conv}.get(words[0])
    return (make(*words[1:]) if make else train(*words)), 1


peer.serve(f"PyTorch {torch.__version__}", make_work)
