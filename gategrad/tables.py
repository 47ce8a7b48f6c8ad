"""The verbs' answers as text for people."""

from collections.abc import Mapping
from typing import Any

from gategrad.backends import Simulation
from gategrad.boards.board import Board
from gategrad.console import out, table
from gategrad.learning_counters import KINDS, of_tensors
from gategrad.model import Model
from gategrad.trade import Precision

#: Resources, in the order in which they are shown.
TITLES = {"luts": "LUTs", "ffs": "FFs", "dsps": "DSPs", "brams": "block RAMs", "sprams": "SPRAMs"}


def show_boards(boards: tuple[Board, ...]) -> None:
    """A row a board."""
    rows = [
        [b.name, b.title, *(str(getattr(b.resources, k)) for k in TITLES), b.uart_pins]
        for b in boards
    ]
    out.print(table(["name", "board", *TITLES.values(), "UART"], rows))
    for text in dict.fromkeys(b.tried for b in boards):
        out.print(f"{', '.join(b.name for b in boards if b.tried == text)}: {text}")


def show_model(model: Model) -> None:
    """Layers, formats and accuracies."""
    columns = ["name", "op", "inputs", "outputs", "x", "weight", "acc", "out"]
    out.print(table(columns, [[str(row[c]) for c in columns] for row in model.layers]))
    info = model.info
    out.print(
        f"accuracy on {info['held_out']} held-out samples: float {info['float_accuracy']:.1%}, "
        f"fixed point {info['accuracy']:.1%}"
    )


def show_precision(found: Precision) -> None:
    """The trade, then the layers of what was chosen."""
    limit = float("inf") if found.drop is None else found.drop + 1e-9
    rows = [
        [
            row.step,
            f"{row.kilobytes:.2f}",
            f"{row.accuracy:.2%}",
            f"{row.points_lost:.2f}",
            "chosen" if row.chosen else "" if row.points_lost <= limit else "too much",
        ]
        for row in found.rows
    ]
    out.print(table(["widths", "weights, kB", "accuracy", "points lost", ""], rows))
    out.print()
    show_model(found.model)


def show_plan(answer: dict[str, Any]) -> None:
    """Layers, resources and rate of `check`, `generate` and `build`."""
    rows = []
    for layer in answer["layers"]:
        folding = layer.get("folding", {})
        rows.append([
            layer["name"],
            layer["op"],
            _size(layer),
            "\n".join(f"{k:<6} {v['q']:<7} {v['fixed']}" for k, v in layer["formats"].items()),
            "x".join(str(folding[k]) for k in ("pe", "simd", "vectors")) if folding else "",
            folding.get("weights", ""),
            f"{layer['cycles']:g}",
            str(layer["resources"]["luts"]),
            str(layer["resources"]["dsps"]),
        ])
    columns = ["layer", "op", "size", "formats", "pe x simd x vectors", "weights in", "cycles",
               "LUTs", "DSPs"]  # fmt: skip
    out.print(table(columns, rows))
    estimate = answer.get("estimate")
    rows = []
    for name, title in TITLES.items():
        use = answer["resources"].get(name, {"used": 0, "available": 0})
        if use["used"] or use["available"]:
            have = use["available"]
            share = f"{use['used'] / have:.0%}" if have else ""
            row = [title, str(use["used"]), "" if have is None else str(have), share]
            rows.append(row + ([str(estimate[name])] if estimate else []))
    columns = ["", "used" if estimate else "estimate", "available", "share"]
    out.print(table(columns + (["estimate"] if estimate else []), rows))
    line = (
        f"{answer['cycles_per_sample']:g} cycles a sample, {answer['multipliers']} multipliers, "
        f"{answer['mac_efficiency']:.1%} of their cycles useful; slowest layer: "
        f"{answer['bottleneck']}"
    )
    if (share := answer["bottleneck_efficiency"]) is not None:
        line += f", {share:.1%} useful"
    if rate := answer["samples_per_second"]:
        line += f"\n{rate:,.0f} samples/s at {answer.get('clock_mhz', answer['fmax_mhz']):g} MHz"
    if link := answer.get("link_samples_per_second"):
        line += f"; the UART brings up to {link:,.0f} a second"
    out.print(line)


def _size(layer: dict[str, Any]) -> str:
    """Elements in and out; of a window the image and the kernel too."""
    size = f"{layer['inputs']}-{layer['outputs']}"
    if window := layer.get("window"):
        image = "x".join(str(window[k]) for k in ("height", "width", "channels"))
        size += f"\n{image}\nkernel {'x'.join(map(str, window['kernel']))}"
    return size


def show_counters(counters: Mapping[str, int]) -> None:
    """What a board has counted: of samples a line each, then a row a tensor."""
    rest, tensors = of_tensors(counters)
    for name, count in rest.items():
        out.print(f"{name.replace('_', ' ')}: {count:,}")
    if tensors:
        rows = [
            [name, *(f"{of[k]:,}" if k in of else "" for k in KINDS)]
            for name, of in tensors.items()
        ]
        out.print(table(["tensor", *KINDS], rows))


def show_simulation(result: Simulation) -> None:
    """One line."""
    text = f"{result.backend}: {result.samples} samples, {result.mismatches} differ from golden"
    text += f", {result.agreement:.1%} of classes agree"
    if result.accuracy is not None:
        text += f", accuracy {result.accuracy:.1%}"
    if result.cycles_per_sample:
        text += f", {result.cycles_per_sample:g} cycles a sample"
    if result.cycles_per_second:
        text += f", {result.cycles_per_second:,.0f} cycles/s"
    if result.seconds:
        rate = result.samples / result.seconds
        text += f", {rate:,.0f} samples/s" if rate >= 10 else f", {rate:.2g} samples/s"
    out.print(text)
