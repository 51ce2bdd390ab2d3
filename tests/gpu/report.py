"""What cuda/gpu_check has found, as Markdown: figures as tests/gpu/bench.cpp prints them, those of PyTorch beside."""
import json

OURS, EAGER, COMPILED = "xent", "PyTorch", "PyTorch, compiled"
WAYS = ["forward", "forward and backward", "fused", "fused, in a graph"]
GOALS = ["loss kernels reach 90 % of a copy from 4096 classes on, with 256 MB of logits or more",
         "the MLP's step at batch 64 is a tenth of PyTorch's, eager"]


def parse(text, who):
    """The figures among a program's lines; what else it prints is left out."""
    figures = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                figures.append({"who": who, **json.loads(line)})
            except json.JSONDecodeError:
                pass
    return figures


def find(figures, table, who=OURS, **where):
    """The first figure that fits, or nothing."""
    for figure in figures:
        if figure["table"] == table and figure["who"] == who and all(figure.get(k) == v for k, v in where.items()):
            return figure
    return None


def rows_of(figures, table):
    return list(dict.fromkeys(figure["row"] for figure in figures if figure["table"] == table and figure["who"] == OURS))


def percent_of_copy(figure, copy):
    """How fast the bytes that a figure has to move went by, in percent of those of the copy."""
    return 100 * (figure["bytes"] / figure["ms"]) / (copy["bytes"] / copy["ms"])


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def milliseconds(figure):
    return "" if figure is None else f"{figure['ms']:.4f}"


def loss_table(figures):
    rows = []
    for row in rows_of(figures, "loss"):
        copy = find(figures, "loss", row=row, what="copy")
        if not copy:
            continue  # the program ended there
        line = [row, f"{copy['bytes'] / copy['ms'] / 1e6:.0f} GB/s"]
        for what in WAYS:
            ours = find(figures, "loss", row=row, what=what)
            line.append(f"{milliseconds(ours)} ({percent_of_copy(ours, copy):.0f} %)" if ours else "")
        for who in EAGER, COMPILED:
            theirs = [milliseconds(find(figures, "loss", who, row=row, what=what)) for what in WAYS[:2]]
            line.append(" / ".join(theirs) if all(theirs) else "")
        rows.append(line)
    return table(["logits", "copy", *WAYS, EAGER, COMPILED], rows)


def classes_table(figures):
    rows = []
    for row in rows_of(figures, "classes"):
        fused, copy = (find(figures, "classes", row=row, what=what) for what in ("fused", "copy"))
        if not (fused and copy):
            continue
        rows.append([row, milliseconds(fused), milliseconds(copy), f"{percent_of_copy(fused, copy):.0f} %"])
    return table(["logits", "fused", "copy", "of the copy's rate"], rows)


def training_table(figures):
    rows = []
    for row in rows_of(figures, "training"):
        eager, graph = (find(figures, "training", row=row, what=what) for what in ("eager", "graph"))
        theirs = [milliseconds(find(figures, "training", who, row=row)) for who in (EAGER, COMPILED)]
        epoch = f"{graph['epoch_s']:.3f} s of {graph['images']}" if graph else ""
        rows.append([row, milliseconds(eager), milliseconds(graph), epoch, *theirs])
    return table(["step", "eager", "graph", "epoch", EAGER, COMPILED], rows)


def epilogue_table(figures):
    types = list(dict.fromkeys(figure["what"] for figure in figures if figure["table"] == "epilogue"))
    rows = []
    for row in rows_of(figures, "epilogue"):
        found = [find(figures, "epilogue", row=row, what=what) for what in types]
        rows.append([row, *("" if figure is None else "yes" if figure["works"] else "no" for figure in found)])
    return table(["epilogue", *types], rows)


def goals(figures):
    """The promises, each with whether it is kept: True, False, or None if it was not measured."""
    shares = []
    for row in rows_of(figures, "classes"):
        fused, copy = (find(figures, "classes", row=row, what=what) for what in ("fused", "copy"))
        if fused and copy and int(row.split("]")[0].split(",")[1]) >= 4096 and fused["bytes"] >= 2 * 256e6:
            shares.append(percent_of_copy(fused, copy))
    mlp = {"row": "MLP 784-512-256-10, batch 64"}
    ours, theirs = find(figures, "training", what="graph", **mlp), find(figures, "training", EAGER, **mlp)
    kept = [min(shares) >= 90 if shares else None, theirs["ms"] >= 10 * ours["ms"] if ours and theirs else None]
    return list(zip(GOALS, kept))


def markdown(report):
    """report: date, tests [{name, how}], figures."""
    figures = report["figures"]
    device = find(figures, "device")
    failed = [test for test in report["tests"] if test["how"] != "passed"]
    words = {True: "kept", False: "NOT KEPT", None: "not measured"}
    gpu = (f"{device['name']}, compute capability {device['capability']}, {device['memory_gib']:.0f} GiB; "
           f"driver {device['driver']}, CUDA {device['runtime']}" if device else "nothing was measured")
    parts = [f"{report['date']}; {gpu}.",
             f"{len(report['tests']) - len(failed)} of {len(report['tests'])} checks passed."
             + "".join(f"\n- {test['name']}: {test['how']}" for test in failed),
             "\n".join(f"- {goal}: {words[kept]}" for goal, kept in goals(figures)),
             "Milliseconds, and the bytes that have to be moved in percent of a copy's rate. PyTorch: forward / both.",
             loss_table(figures), classes_table(figures),
             "Training with Adam, milliseconds per step; ours with the loader, PyTorch's without.",
             training_table(figures), "What cuBLASLt has algorithms for:", epilogue_table(figures)]
    return "\n\n".join(parts) + "\n"
