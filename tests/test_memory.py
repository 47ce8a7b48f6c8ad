import random

import pytest
from vectors import run_amaranth

from gategrad.errors import GategradError
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE, Resources

# Components are made here to look at, not only to elaborate.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

KINDS = [(t, s) for t in (PORTABLE, ICE40, ECP5) for s in ("block", "logic")] + [(ICE40UP, "spram")]
SIZES = [(1, 1), (5, 7), (40, 100), (17, 600)]


def contents(width: int, depth: int) -> list[int]:
    source = random.Random(f"memory {width} {depth}")
    return [source.getrandbits(width) for _ in range(depth)]


def memory_run(dut: WeightMemory, cycles: int = 200) -> tuple[list[dict], list[int | None]]:
    """Random reads and writes with pauses, and the data expected in each cycle (None: any)."""
    source = random.Random(f"accesses {dut.width} {dut.depth} {dut.storage}")
    rows, stages = dict(enumerate(dut.init)), [None] * dut.latency
    stimulus, expected = [], []
    if dut.storage == "spram":
        rows = {}
        spots = sorted({0, dut.depth - 1, *(source.randrange(dut.depth) for _ in range(20))})
    else:
        spots = [source.randrange(dut.depth) for _ in range(30)] + [0, dut.depth - 1]
    for _ in range(cycles):
        address, enable = source.choice(spots), source.random() < 0.7
        cycle = {"address": address, "enable": int(enable)}
        expected.append(stages[-1])
        if enable:
            stages = [rows.get(address), *stages[:-1]]
        if dut.writable:
            target, word = source.choice(spots), source.getrandbits(dut.width)
            write = source.random() < 0.4 and (target != address or dut.storage == "spram")
            cycle |= {"w_address": target, "w_data": word, "w_enable": int(write)}
            if dut.storage == "spram":
                # Whole rows at first, so that there is something for a byte to be written into.
                every = (1 << -(-dut.width // 8)) - 1
                mask = source.randint(0, every) if target in rows else every
                cycle["w_mask"] = mask
                kept = sum(0xFF << 8 * byte for byte in range(dut.width) if not mask >> byte & 1)
                word = (word & ~kept) | (rows.get(target, 0) & kept & ((1 << dut.width) - 1))
            if write:
                rows[target] = word
                if dut.storage == "spram":
                    stages = [None]
        stimulus.append(cycle)
    return stimulus, expected


def check_memory(dut: WeightMemory, expected, results) -> None:
    assert sum(value is not None for value in expected) > len(expected) // 3
    for cycle, (value, got) in enumerate(zip(expected, results, strict=True)):
        assert value is None or got["data"] == value, cycle


@pytest.mark.parametrize("technology, storage", KINDS, ids=[f"{t.name}-{s}" for t, s in KINDS])
@pytest.mark.parametrize("width, depth", SIZES)
@pytest.mark.parametrize("writable", [False, True], ids=["rom", "ram"])
def test_reads_what_was_written(technology, storage, width, depth, writable):
    init = None if storage == "spram" else contents(width, depth)
    dut = WeightMemory(width, depth, init, technology.simulated(), storage, writable)
    stimulus, expected = memory_run(dut)
    check_memory(dut, expected, run_amaranth(dut, stimulus))


def test_spram_banks():
    dut = WeightMemory(20, 33000, None, ICE40UP.simulated(), "spram")
    assert dut.blocks == 6
    stimulus, expected = memory_run(dut, 400)
    check_memory(dut, expected, run_amaranth(dut, stimulus))


def test_rest_of_a_short_init_is_zero():
    dut = WeightMemory(4, 4, [5, 6], PORTABLE)
    assert dut.init == [5, 6, 0, 0]


@pytest.mark.parametrize(
    "technology, storage, latency",
    [
        (PORTABLE, "block", 2),
        (ICE40, "block", 1),
        (ECP5, "block", 2),
        (ECP5, "logic", 1),
        (ICE40UP, "spram", 1),
    ],
)
def test_latency(technology, storage, latency):
    dut = WeightMemory(8, 8, None, technology, storage)
    assert dut.latency == latency
    assert WeightMemory(8, 8, None, technology.simulated(), storage).latency == latency


@pytest.mark.parametrize(
    "technology, width, depth, writable, blocks",
    [
        (ICE40, 64, 1568, False, 28),  # 7 deep, 4 wide
        (ICE40, 64, 784, False, 16),
        (ICE40, 20, 300, False, 3),
        (ICE40, 40, 100, True, 3),
        (ECP5, 36, 512, False, 1),
        (ECP5, 36, 512, True, 1),
        (ECP5, 36, 600, True, 2),
        (ECP5, 36, 513, False, 2),
        (ECP5, 224, 512, False, 7),
        (ECP5, 18, 1024, True, 1),
        (ECP5, 1, 16384, False, 1),
        (ECP5, 4, 4096, True, 1),
        (PORTABLE, 36, 512, False, 0),
    ],
)
def test_blocks(technology, width, depth, writable, blocks):
    rng = random.Random(width)
    rows = [rng.getrandbits(width) for _ in range(depth)]
    dut = WeightMemory(width, depth, rows, technology, writable=writable)
    assert dut.blocks == dut.cost().brams == blocks


def test_what_is_constant_takes_no_block():
    """Columns of a unit without weights are wires, and the memory still reads right."""
    rows = [n & 0xFF for n in range(300)]
    dut = WeightMemory(32, 300, rows, ICE40)
    assert WeightMemory(32, 300, [row << 24 | row for row in rows], ICE40).blocks == 2 * dut.blocks
    assert WeightMemory(32, 300, rows, ICE40, writable=True).blocks > dut.blocks


def test_resources_add_up():
    a, b = Resources(luts=1, ffs=2, brams=3), Resources(dsps=4, sprams=5)
    assert a + b == Resources(1, 2, 4, 3, 5)
    assert 3 * a == a * 3 == Resources(luts=3, ffs=6, brams=9)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"storage": "disk"}, "storage must be one of"),
        ({"depth": 0}, "needs rows and bits"),
        ({"technology": ECP5, "storage": "spram"}, "has no SPRAM"),
        ({"init": [0] * 9}, "9 rows do not fit a memory of 8"),
        ({"init": [16]}, r"must be 0 to 2\*\*4 - 1"),
        ({"init": [1], "storage": "spram"}, "cannot be set by a bitstream"),
    ],
)
def test_refuses(change, message):
    arguments = {"width": 4, "depth": 8, "init": None, "technology": ICE40UP}
    with pytest.raises(GategradError, match=message):
        WeightMemory(**(arguments | change))
