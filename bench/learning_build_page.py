"""The goals and the sections of docs/benchmarks.md about networks that learn on boards."""

from collections.abc import Iterator
from typing import Any

from bench.learning_builds import BUILDS, named
from bench.network_page import Goal, table

Results = dict[str, Any]

MNIST = "mnist on ulx3s-85f"
#: Samples a second that the digits network is to learn.
DIGITS = {"digits batch 1 on icebreaker": 60_000, "digits on ulx3s-25f": 400_000}
#: On an iCE40UP5K.
FITTING = ("perceptron on icebreaker", "xor on icebreaker")
#: Bytes a second that bring samples: the link's at its usual rate, at the fastest of common USB
#: bridges, a flash in quad mode at 50 MHz, SDRAM of 16 bits at 100 MHz.
FEEDS = {
    "UART, 1 Mbaud": 1e5, "UART, 12 Mbaud": 1.2e6, "flash, quad SPI at 50 MHz": 2.5e7,
    "SDRAM, 16 bits at 100 MHz": 2e8,
}  # fmt: skip
BYTES = 785  # of an image and its label


def _builds(results: Results) -> Results:
    found = {k: r for k, r in results.items() if k.startswith("learning: ") and " on " in k}
    return {name.removeprefix("learning: "): r for name, r in found.items()}


def rate(r: Results) -> float:
    """Samples a second at the clock that place and route allows."""
    return r["board"]["fmax_mhz"] * 1e6 / r["counted"]["cycles"]


def build_goals(results: Results) -> Iterator[Goal]:
    """A row for every goal whose case was run."""
    found = _builds(results)
    placed = {name: r for name, r in found.items() if "board" in r}
    if r := placed.get(MNIST):
        used, fmax = r["board"]["multipliers"], r["board"]["fmax_mhz"]
        yield (
            f"{MNIST}, learning: MHz after place and route, with {used} multipliers",
            "at least 100 with 64", f"{fmax:.1f}", fmax >= 100 and used >= 64,
        )  # fmt: skip
        if speeds := results.get("learning: rates"):
            for key, text, least in (("numpy", "NumPy's", 20), ("c", "the C program's", 1)):
                ratio = rate(r) / speeds[key]
                yield (
                    f"{MNIST}, batches of {r['board']['batch']}: samples/s learned by {text} at "
                    "batch 1", f"at least {least}", f"{ratio:.2f}", ratio >= least,
                )  # fmt: skip
    for name, least in DIGITS.items():
        if r := found.get(name):
            got = rate(r) if "board" in r else 0
            yield f"{name}: samples/s learned", f"at least {least:,}", f"{got:,.0f}", got >= least
    if both := [name for name in FITTING if name in found]:
        fit = sum(name in placed for name in both)
        yield (
            "XOR and a perceptron of 784 inputs learn on an iCE40UP5K", "both fit",
            f"{fit} of {len(both)}", fit == len(both),
        )  # fmt: skip


def build_sections(results: Results) -> list[str]:
    """The sections; those without results are left out."""
    found, parts = _builds(results), []
    if found:
        parts.append(_boards(found))
    if MNIST in found and "board" in found[MNIST]:
        parts.append(_feeds(found[MNIST]))
    if growth := results.get("learning: growth"):
        parts.append(_growth(growth))
    return parts


def _boards(found: Results) -> str:
    rows = []
    for name, r in found.items():
        if "refused" in r:
            rows.append([name, r["refused"], *[""] * 9])
            continue
        b, c = r["board"], r["counted"]
        cells = [
            f"{b['resources'][key]['used']:,} ({b['estimate'][key]:,})"
            for key in ("luts", "ffs", "dsps", "brams")
        ]
        limit = b["multipliers"] * b["fmax_mhz"] * 1e6 / sum(row["macs"] for row in b["layers"])
        rows.append([
            name, f"{b['fmax_mhz']:.1f}", str(b["multipliers"]), f"{c['cycles']:,.1f}",
            f"{rate(r):,.0f}", f"{limit:,.0f}", f"{c['useful']:.1%}", *cells,
        ])  # fmt: skip
    return (
        "## Learning: bitstreams\n\n`python -m bench \"learning: MODEL on BOARD\"`: `gategrad "
        "trainer examples/MODEL.toml --data DATA --board BOARD -o DIR`, link and clock included; "
        "cycles a sample counted in Verilator, with every weight as golden's; the limit is that "
        "of multipliers which never wait; in brackets what the plan estimated.\n\n"
        + table(["model and board", "fmax MHz", "multipliers", "cycles", "samples/s", "limit",
                 "useful", "LUTs", "FFs", "DSPs", "block RAMs"], rows)
        + f"\nIn place of what `[learn]` says: {'; '.join(_different(found))}.\n"
    )  # fmt: skip


def _different(found: Results) -> list[str]:
    """The settings of builds that are not those of their example."""
    builds = {named(*build).removeprefix("learning: "): build[2] for build in BUILDS}
    return [
        f"{name}: " + ", ".join(f"`{key} = {value!r}`" for key, value in builds[name].items())
        for name in found if builds.get(name)
    ]  # fmt: skip


def _feeds(r: Results) -> str:
    rows = [[name, f"{speed / BYTES:,.0f}"] for name, speed in FEEDS.items()]
    return (
        f"## Learning: what could feed it\n\nMNIST, {BYTES} bytes a sample; the ULX3S learns "
        f"{rate(r):,.0f} a second.\n\n" + table(["samples from", "samples/s"], rows)
    )


def _growth(found: Results) -> str:
    parts = []
    for key, text in (("width", "units of the middle layer"), ("depth", "layers of 32 units")):
        rows = [
            [name, f"{r['weights']:,}", f"{r['cycles']:,}", str(r["multipliers"]),
             *(f"{r['cost'][k]:,}" for k in ("luts", "ffs", "dsps", "brams"))]
            for name, r in found[key].items()
        ]  # fmt: skip
        parts.append(table([text, "weights and biases", "cycles a sample", "multipliers", "LUTs",
                            "FFs", "DSPs", "block RAMs"], rows))  # fmt: skip
    return (
        "## Learning: how costs grow\n\n`python -m bench \"learning: growth\"`: plans for up to 64 "
        "multipliers of a ULX3S-85F, 64 inputs and 10 outputs, estimated.\n\n" + "\n".join(parts)
    )
