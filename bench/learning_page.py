"""The goals and the sections of docs/benchmarks.md about networks that learn in integers."""

from collections.abc import Iterator
from typing import Any

from bench.learning_build_page import build_goals, build_sections
from bench.network_page import Goal, table

Results = dict[str, Any]

#: Per cent of the test images that a C program of a lecture on perceptrons gets right.
LECTURE = {"0 1": 99.9, "1 2": 98.6, "3 6": 98.8, "5 6": 94.6, "8 9": 97.4}
#: Points that golden may lose to floating point.
NEAR = {"lenet5": 1.0, "residual-learn": 1.0, "concatenate-learn": 1.0,
        "cifar-linear": 1.0, "cifar-svm": 1.0}  # fmt: skip
MULTIPLIERS = 64  # of gateware in Verilator, unless a board says otherwise


def _mine(results: Results) -> Results:
    found = {k: r for k, r in results.items() if k.startswith("learning: ") and " on " not in k}
    return {name.removeprefix("learning: "): r for name, r in found.items()}


def _pairs(found: Results) -> Results:
    return {k.removeprefix("perceptron "): r for k, r in found.items() if k.startswith("perc")}


def _verified(found: Results) -> Results:
    """Runs in Verilator."""
    whole = {name: r["same"] for name, r in found.items() if "same" in r}
    runs = {name: r["verilator"] for name, r in whole.items() if "verilator" in r}
    return runs | {name: r["verilator"] for name, r in found.items() if "verilator" in r}


def _lost(row: Results) -> float:
    """Points that golden is below floating point; negative where it is above."""
    return 100 * (row["float"]["accuracy"] - _golden(row)["accuracy"])


def _golden(row: Results) -> Results:
    """Of golden, with or without gateware beside it."""
    return row.get("numpy") or row["verilator"]


def learned(counts: list[int | None]) -> float:
    """The share of seeds that have learned."""
    return sum(count is not None for count in counts) / len(counts)


def narrowest(found: Results, key: str, points: float = 0.5) -> int | None:
    """The fewest bits of ``key``, the others being 16, down to which nothing lost ``points``."""
    others = [k for k in ("weight", "activation", "delta") if k != key]
    rows = [r for r in found["widths"] if all(r[k] == 16 for k in others)]
    best = None
    for row in sorted(rows, key=lambda r: -r[key]):
        if "refused" in row or 100 * (found["float"]["accuracy"] - row["accuracy"]) > points:
            break
        best = row[key]
    return best


def learning_goals(results: Results) -> list[Goal]:
    """A row for every goal whose case was run."""
    found = _mine(results)
    return [*_accuracies(found), *_equal(found), *_speeds(found), *build_goals(results)]


def _accuracies(found: Results) -> Iterator[Goal]:
    if pairs := _pairs(found):
        lost = {name: abs(_lost(r["same"])) for name, r in pairs.items()}
        worst = max(lost, key=lost.__getitem__)
        yield (
            f"perceptron, {len(pairs)} pairs of digits, 100 passes: points from float, most "
            f"({worst})", "at most 0.3", f"{lost[worst]:.2f}", lost[worst] <= 0.3,
        )  # fmt: skip
    for name, r in pairs.items():
        share = 100 * r["best"]["numpy"]["accuracy"]
        yield (
            f"perceptron, {name.replace(' ', ' or ')}: per cent right, falling rate and validation",
            f"at least {LECTURE[name]}", f"{share:.2f}", round(share, 1) >= LECTURE[name],
        )  # fmt: skip
    if r := found.get("xor"):
        real, got = learned(r["float"]), learned(r["numpy"])
        yield (
            f"XOR: share of {len(r['numpy'])} seeds that learn; of float {real:.0%}",
            "within 5 points", f"{got:.0%}", abs(got - real) < 0.0501,
        )  # fmt: skip
    if r := found.get("mnist"):
        for key, text in (("subset", "4,000 images"), ("all", "60,000 images")):
            lost = _lost(r[key])
            yield (
                f"MNIST 784-32-10, one pass over {text}, 16 bits: points lost to float, mean of "
                f"{len(r[key]['numpy']['accuracies'])} seeds", "at most 0.5", f"{lost:.2f}",
                lost <= 0.5,
            )  # fmt: skip
    for name, points in NEAR.items():
        if r := found.get(name):
            lost = _lost(r)
            yield (
                f"{name}: points lost to float, learned in 16 bits", f"at most {points:g}",
                f"{lost:.2f}", lost <= points,
            )  # fmt: skip


def _equal(found: Results) -> Iterator[Goal]:
    if runs := _verified(found):
        same = sum(run["equal"] for run in runs.values())
        total = sum(run["samples"] for run in runs.values())
        yield (
            f"networks with every weight as golden's at the end in Verilator, after {total:,} "
            "samples together", "all", f"{same} of {len(runs)}", same == len(runs),
        )  # fmt: skip
    if r := found.get("batches"):
        long = {batch: row for batch, row in r.items() if int(batch) >= 8}
        for batch, row in long.items():
            yield (
                f"MNIST learning with {row['multipliers']} multipliers, batches of {batch}: "
                "multiplier-cycles that are useful in the layer that decides", "at least 80 %",
                f"{row['useful']:.1%}", row["useful"] >= 0.8,
            )  # fmt: skip


def _speeds(found: Results) -> Iterator[Goal]:
    if r := found.get("rates"):
        yield (
            f"golden learns MNIST, batches of {r['batch']}: images/s", "at least 2,000",
            f"{r['golden']:,.0f}", r["golden"] >= 2000,
        )  # fmt: skip


def learning_sections(results: Results) -> list[str]:
    """The sections; those without results are left out."""
    found = _mine(results)
    parts = []
    if pairs := _pairs(found):
        parts.append(_perceptrons(pairs))
    if "xor" in found:
        parts.append(_xor(found["xor"]))
    graphs = {name: found[name] for name in NEAR if name in found}
    if "mnist" in found or graphs:
        parts.append(_networks(found, graphs))
    if "formats" in found:
        parts.append(_formats(found["formats"]))
    if runs := _verified(found):
        parts.append(_simulated(runs))
    if "batches" in found:
        parts.append(_batches(found["batches"]))
    if "rates" in found:
        parts.append(_rates(found["rates"]))
    return parts + build_sections(results)


def _perceptrons(pairs: Results) -> str:
    rows = []
    for name, r in pairs.items():
        same, best = r["same"], r["best"]
        rows.append([
            name.replace(" ", " or "), f"{same['held_out']:,}",
            f"{same['float']['accuracy']:.2%}", f"{_golden(same)['accuracy']:.2%}",
            f"{best['float']['accuracy']:.2%}", f"{best['numpy']['accuracy']:.2%}",
            f"{LECTURE[name]} %",
        ])  # fmt: skip
    return (
        "## Learning: perceptrons\n\n`python -m bench \"learning: perceptron A B\"`: "
        "`examples/perceptron.toml`, one unit of 785 weights, on two digits of MNIST. 100 passes "
        "at a constant rate, from weights of 0, where the rate only scales what is learned; a "
        "power of two makes every update a whole number of steps of Q5.11, so that golden is "
        "floating point to the last sample. Then 20 passes at a rate that falls as 1/t, a tenth "
        "of the images held back to choose the pass. Beside them a lecture's C program.\n\n"
        + table(["digits", "test images", "100 passes, float", "integers", "best pass, float",
                 "integers", "the lecture"], rows)
    )  # fmt: skip


def _xor(found: Results) -> str:
    rows = []
    for key, text in (("float", "floating point"), ("numpy", "integers")):
        counts = sorted(count for count in found[key] if count is not None)
        middle = counts[len(counts) // 2] if counts else None
        most = counts[-1] if counts else None
        rows.append([text, f"{learned(found[key]):.0%}", f"{middle:,}", f"{most:,}"])
    return (
        f"## Learning: XOR\n\n`python -m bench \"learning: xor\"`: `examples/xor.toml`, 2-2-1 with "
        f"sigmoids, {len(found['float'])} seeds, up to 10,000 samples at a rate of 1. It has "
        "learned when all four outputs are within 0.2 of their targets.\n\n"
        + table(["", "seeds that learn", "samples it took, median", "most"], rows)
    )


def _networks(found: Results, graphs: Results) -> str:
    rows = []
    if mnist := found.get("mnist"):
        for key, text in (("subset", "4,000"), ("all", "60,000")):
            r = mnist[key]
            many = len(r["numpy"]["accuracies"])
            rows.append(_row(f"mnist, {many} seeds", text, r))
    for name, r in graphs.items():
        rows.append(_row(name, f"{r['numpy']['samples']:,}", r))
    return (
        "## Learning: accuracy\n\n`python -m bench \"learning: MODEL\"`: what `gategrad train "
        "examples/MODEL.toml --backend float` and `numpy` reach with the same first weights, "
        "order, batches and rate; 16 bits of weights, activations and deltas. After a few thousand "
        "samples at a constant rate the accuracies of single runs are a point apart, those of "
        "floating point too, so there they are means.\n\n"
        + table(["network", "samples learned", "float", "integers", "loss, float", "integers",
                 "test images"], rows)
    )  # fmt: skip


def _row(name: str, samples: str, r: Results) -> list[str]:
    return [
        name, samples, f"{r['float']['accuracy']:.2%}", f"{r['numpy']['accuracy']:.2%}",
        f"{r['float']['loss']:.4f}", f"{r['numpy']['loss']:.4f}", f"{r['held_out']:,}",
    ]  # fmt: skip


def _formats(found: Results) -> str:
    rows = []
    for r in found["widths"]:
        got = r["refused"] if "refused" in r else f"{r['accuracy']:.2%}"
        losing = [f"{n} {s:.1%}" for n, s in r.get("losing", {}).items() if s >= 0.001]
        rows.append([str(r["weight"]), str(r["activation"]), str(r["delta"]), got,
                     ", ".join(losing)])  # fmt: skip
    bits = {key: narrowest(found, key) for key in ("weight", "activation", "delta")}
    return (
        "## Learning: bits\n\n`python -m bench \"learning: formats\"`: 784-32-10, one pass over "
        "4,000 images of MNIST in batches of 8, stochastic rounding of updates, mean of "
        f"{len(found['float']['accuracies'])} seeds; "
        f"floating point reaches {found['float']['accuracy']:.2%}. Within half a point of it are "
        f"weights down to {bits['weight']} bits, activations down to {bits['activation']} and "
        f"deltas down to {bits['delta']}, the others at 16.\n\n"
        + table(["bits of weights", "of activations", "of deltas", "accuracy",
                 "tensors that saturate"], rows)
    )  # fmt: skip


def _simulated(runs: Results) -> str:
    rows = [
        [name, f"{r['weights']:,}", f"{r['samples']:,}", "all" if r["equal"] else "**no**",
         f"{r['cycles'] / r['samples']:,.1f}", f"{r['cycles'] / r['simulated']:,.0f}"]
        for name, r in runs.items()
    ]  # fmt: skip
    return (
        "## Learning: gateware in Verilator\n\nEvery output on the way, and every weight at the "
        f"end, against golden's; {MULTIPLIERS} multipliers at most.\n\n"
        + table(["network", "weights and biases", "samples learned", "equal", "cycles a sample",
                 "cycles/s"], rows)
    )  # fmt: skip


def _batches(found: Results) -> str:
    rows = [
        [batch, str(r["multipliers"]), f"{r['planned']:,}", f"{r['expected']:,.1f}",
         f"{r['cycles']:,.1f}",
         f"{r['useful']:.1%}", f"{r['useful_over_all']:.1%}", "all" if r["equal"] else "**no**"]
        for batch, r in found.items()
    ]  # fmt: skip
    return (
        "## Learning: batches\n\n784-32-10 laid out for ULX3S-85F, in Verilator: a sample's "
        "forward pass overlaps the backward pass of the one before, unless weights change between "
        "them.\n\n"
        + table(["batch", "multipliers", "cycles of the slowest layer", "planned for a sample",
                 "cycles a sample", "useful there", "useful over all", "weights equal"], rows)
    )  # fmt: skip


def _rates(r: Results) -> str:
    return (
        "## Learning: what processors reach\n\n`python -m bench \"learning: rates\"`: 784-32-10, "
        f"{r['samples']:,} images of MNIST, one core. The C program (`bench/train_baseline.c`, "
        f"`{r['flags']}`) goes over the first layer's weights once a sample: update and the next "
        "forward pass together. NumPy and it end with the same weights.\n\n"
        + table(["program", "batch", "samples/s"],
                [["C, 32-bit floats, vector instructions", "1", f"{r['c']:,.0f}"],
                 ["NumPy, 32-bit floats", "1", f"{r['numpy']:,.0f}"],
                 ["golden, integers", str(r["batch"]), f"{r['golden']:,.0f}"]])
    )  # fmt: skip
