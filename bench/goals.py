"""What the project set out to reach, beside what was measured."""

from collections.abc import Iterator

from bench.import_page import import_goals
from bench.learning_page import learning_goals
from bench.network_page import Goal, network_goals
from bench.virtual import virtual_goals

#: Weight bits a cycle that the four SPRAMs of a UP5K give.
SPRAM_BITS = 64


def goals(results: dict) -> list[Goal]:
    """A row for every goal whose case was run."""
    builds = {name: r for name, r in results.items() if " on " in name and ":" not in name}
    rows = [*_models(results), *_speeds(results), *virtual_goals(results)]
    for name, result in builds.items():
        rows += _build(name, result["board"], result["core"])
    if builds:
        rows += _every(builds)
    return rows + network_goals(results) + import_goals(results) + learning_goals(results)


def _models(results: dict) -> Iterator[Goal]:
    if found := results.get("accuracy", {}).get("mnist"):
        loss = 100 * (found["float_accuracy"] - found["accuracy"])
        yield "MNIST, 8 bits: points lost to float", "at most 0.5", f"{loss:.1f}", loss <= 0.5
    for backend, least in (("verilator", 1000), ("amaranth", 20)):
        runs = [r for k, r in results.get("simulators", {}).items() if k.startswith(backend)]
        if runs:
            samples, wrong = min(r["samples"] for r in runs), sum(r["mismatches"] for r in runs)
            yield (
                f"images with every output as NumPy's, {backend}", f"{least:,} of {least:,}",
                f"{samples - wrong:,} of {samples:,}", samples >= least and not wrong,
            )  # fmt: skip


def _speeds(results: dict) -> Iterator[Goal]:
    if found := results.get("simulators"):
        fast, slow = (
            [r["cycles_per_second"] for k, r in found.items() if k.startswith(backend)]
            for backend in ("verilator", "amaranth")
        )
        ratio, golden = min(fast) / max(slow), found["golden_per_second"]
        yield "Verilator's cycles/s by Amaranth's", "at least 100", f"{ratio:,.0f}", ratio >= 100
        yield "golden, images/s", "at least 20,000", f"{golden:,.0f}", golden >= 20_000
    if found := results.get("generate"):
        seconds = found["seconds"]
        yield "`generate`, seconds", "under 5", f"{seconds:.1f}", seconds < 5


def _build(name: str, board: dict, core: dict) -> Iterator[Goal]:
    least = {
        "mnist on icebreaker": (16, 45),
        "mnist on ulx3s-25f": (28, 120),
        "mnist on ulx3s-85f": (128, 110),
        "mnist-4bit on hx8k": (0, 80),
    }.get(name)
    fmax, dsps = board["fmax_mhz"], board["resources"].get("dsps", {"used": 0})["used"]
    if least:
        lanes = dsps * (2 if "icebreaker" in name else 1)
        text = f"{fmax:.1f}; the PLL makes {board['clock_mhz']:g}"
        yield f"{name}: MHz after place and route", f"at least {least[1]}", text, fmax >= least[1]
        if least[0]:
            yield (
                f"{name}: multiplications a cycle in hardware blocks", f"at least {least[0]}",
                str(lanes), lanes >= least[0],
            )  # fmt: skip
    if name == "mnist on icebreaker":
        layer = board["layers"][0]
        width = layer["formats"]["weight"]["q"]
        bits = sum(abs(int(part)) for part in width.lstrip("UQ").split("."))
        pair = SPRAM_BITS * board["cycles_per_sample"] * board["samples_together"]
        share = layer["macs"] * bits / pair
        yield f"{name}: share of SPRAM's bits read", "at least 90 %", f"{share:.1%}", share >= 0.9
    if name.startswith("digits"):
        seconds = board["seconds"]
        yield f"{name}: seconds to a bitstream", "at most 60", f"{seconds:.0f}", seconds <= 60
    if name == "digits on ulx3s-25f":
        rate = core["fmax_mhz"] * 1e6 / core["cycles"] / core["luts"]
        yield f"{name}: inferences/s per LUT", "at least 1,000", f"{rate:,.0f}", rate >= 1000


def _every(builds: dict) -> Iterator[Goal]:
    useful = {name: r["core"]["efficiency"] for name, r in builds.items()}
    low = min(useful, key=useful.__getitem__)
    yield (
        f"multiplier-cycles that are useful, least of all builds ({low})", "at least 90 %",
        f"{useful[low]:.1%}", useful[low] >= 0.9,
    )  # fmt: skip
    large = {n: r["core"] for n, r in builds.items() if r["core"]["lanes"] >= 16}
    for key, title in (("lut4", "LUT4s"), ("luts", "cells, flip-flops and carries included,")):
        if cost := {name: core[key] / core["lanes"] for name, core in large.items()}:
            high = max(cost, key=cost.__getitem__)
            yield (
                f"{title} a multiplication of the core, most of those with 16 or more ({high})",
                "at most 60", f"{cost[high]:.1f}", cost[high] <= 60,
            )  # fmt: skip
    for key, title in (("luts", "logic"), ("ffs", "flip-flops")):
        off = {n: r["core"]["estimate"][key] / r["core"][key] - 1 for n, r in builds.items()}
        worst = max(off, key=lambda name: abs(off[name]))
        yield (
            f"estimate of the core's {title}, furthest from place and route ({worst})",
            "within 15 %", f"{off[worst]:+.0%}", abs(off[worst]) <= 0.15,
        )  # fmt: skip
    exact = [
        core["estimate"][key] == core[key]
        for core in (r["core"] for r in builds.values())
        for key in ("dsps", "brams", "sprams")
    ]
    exact += [r["counted"]["cycles"] == r["core"]["cycles"] for r in builds.values()]
    yield (
        "estimates of DSPs, RAMs and cycles that are exact", f"{len(exact)} of {len(exact)}",
        f"{sum(exact)} of {len(exact)}", all(exact),
    )  # fmt: skip
