"""PyTorch's figures beside those of tests/gpu/bench.cpp, in the same form: torch_peer.py eager|compiled."""
import json
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import torch_models  # noqa: E402

COMPILED = sys.argv[1] == "compiled"
TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
BURSTS = 9


def show(**figure):
    print(json.dumps(figure), flush=True)


def milliseconds(work):
    def burst(calls):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / calls

    burst(3)
    calls = min(max(int(20 / burst(1)), 3), 200)
    return statistics.median(burst(calls) for _ in range(BURSTS))


def loss_figures(rows, classes, name):
    logits = torch.randn(rows, classes, device="cuda").to(TYPES[name])
    labels = torch.randint(0, classes, (rows,), device="cuda")
    forward = torch.compile(F.cross_entropy, dynamic=False) if COMPILED else F.cross_entropy
    size = logits.numel() * logits.element_size()
    row = f"[{rows}, {classes}] {name}"
    with torch.no_grad():
        show(table="loss", row=row, what="forward", ms=milliseconds(lambda: forward(logits, labels)), bytes=size)
    logits.requires_grad_(True)

    def both():
        logits.grad = None
        forward(logits, labels).backward()

    show(table="loss", row=row, what="forward and backward", ms=milliseconds(both), bytes=3 * size)


def training_figures(title, kind, batch):
    """A step from a batch that is on the device already, which spares PyTorch a loader."""
    model = torch_models.make(kind, torch.channels_last).cuda()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    images = torch.randn(batch, 28, 28, 1, device="cuda")
    labels = torch.randint(0, 10, (batch,), device="cuda")
    inputs = images.flatten(1) if kind == "mlp" else images

    def loss():
        return F.cross_entropy(model(inputs), labels)

    forward = torch.compile(loss, dynamic=False, mode="reduce-overhead") if COMPILED else loss

    def run(steps):
        start = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            forward().backward()
            optimizer.step()
        torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - start) / steps

    run(20)
    show(table="training", row=f"{title}, batch {batch}", what="step", ms=statistics.median(run(50) for _ in range(BURSTS)))


show(table="version", torch=torch.__version__, cuda=torch.version.cuda)
for rows, classes in (8192, 32000), (4096, 128256), (65536, 10):
    for name in TYPES:
        torch.cuda.empty_cache()
        loss_figures(rows, classes, name)
for batch in 64, 1024:
    training_figures("MLP 784-512-256-10", "mlp", batch)
    training_figures("CNN of 05_mnist_cnn", "cnn", batch)
