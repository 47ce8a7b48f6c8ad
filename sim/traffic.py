"""What moves through the streams of a design in a run, whatever simulates it."""

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from gategrad.errors import GategradError
from gategrad.sim.payload import from_words, to_words
from gategrad.sim.result import FAULTS, SimulationTimeout, Stalls, StreamRuleError

#: Share of the cycles in which a port stalls (0 up to below 1), and a seed.
Stall = tuple[float, int]
_LOOK = 0.1  # seconds between looks at Ctrl-C and the progress, about


class Port(ctypes.Structure):
    """``Port`` of streams.cpp, field by field: what a stream has to move, and what it moved."""

    _fields_ = [
        ("words", ctypes.c_void_p),  # count x 32-bit words of the payload
        ("times", ctypes.c_void_p),  # count: the cycle of each beat
        *((name, ctypes.c_int64) for name in ("count", "moved")),
        *((name, ctypes.c_uint64) for name in ("seed", "stall")),  # stall: of 2**32
    ]


class State(ctypes.Structure):
    """``State`` of streams.cpp, field by field."""

    _fields_ = [
        ("ports", ctypes.POINTER(Port)),  # inputs, then outputs
        *((name, ctypes.c_int64) for name in ("left", "cycle")),  # left: beats yet to move
        *((name, ctypes.c_int64) for name in ("fault", "fault_port", "fault_cycle")),
    ]


class Traffic:
    """The beats of one run: ``state`` and ``ports`` for the simulator, and their arrays."""

    def __init__(self, names: list[str], words: list[np.ndarray], stalls: list[Stall]) -> None:
        self.names, self.words = names, words
        self.times = [np.zeros(len(rows), np.int64) for rows in words]
        self.ports = (Port * len(names))()
        for port, rows, times, (share, seed) in zip(
            self.ports, words, self.times, stalls, strict=True
        ):
            port.words, port.times, port.count = rows.ctypes.data, times.ctypes.data, len(rows)
            port.seed, port.stall = seed % 2**64, int(share * 2**32)
        self.state = State(self.ports, left=sum(map(len, words)))

    def moved(self) -> dict[str, int]:
        """The beats that moved, by port."""
        return {name: port.moved for name, port in zip(self.names, self.ports, strict=True)}


@dataclass(frozen=True)
class StreamResult:
    """What came out of a run, and when. Cycle 0 is its first."""

    beats: dict[str, np.ndarray]  # by output: payloads, as gategrad.sim.payload says
    times: dict[str, np.ndarray] = field(repr=False)  # by port, inputs too: cycle of each beat
    cycles: int  # from cycle 0 to the last beat, both included
    waiting: tuple[str, ...]  # outputs that offer one more beat at the end
    seconds: float  # of the wall clock, in the simulator itself

    @property
    def cycles_per_second(self) -> float:
        """Simulated clock cycles per second of the wall clock."""
        return self.cycles / max(self.seconds, 1e-9)


class StreamDesign:
    """A design with any set of streams, and a way to move beats through all of them at once.

    ``inputs`` and ``outputs`` are the widths of the streams' payloads in bits, by name;
    ``signals_in`` and ``signals_out`` those of the ports that are not part of any of them.
    """

    simulator: str
    inputs: dict[str, int]
    outputs: dict[str, int]
    signals_in: dict[str, int]
    signals_out: dict[str, int]

    def reset(self) -> None:
        """Hold reset for sixteen cycles. Memories keep what was written to them."""
        raise NotImplementedError

    def _simulate(self, traffic: Traffic, cycles: int, idle: bool) -> None:
        """At most ``cycles`` cycles, until ``left`` is 0 (just as many if ``idle``) or a fault."""
        raise NotImplementedError

    def _waiting(self) -> list[bool]:
        raise NotImplementedError

    def _set(self, name: str, bits: int) -> None:
        raise NotImplementedError

    def _get(self, name: str) -> int:
        raise NotImplementedError

    def set(self, name: str, value: int) -> None:
        """Hold the input ``name`` at ``value`` (0 before; also through :meth:`reset`)."""
        width = self.signals_in[_known(name, self.signals_in, "input signal")]
        if not -(1 << (width - 1)) <= int(value) < 1 << width:
            raise GategradError(f"{int(value)} does not fit the {width} bits of {name}")
        self._set(name, int(value) & ((1 << width) - 1))

    def get(self, name: str) -> int:
        """The bits of the output ``name``, as an unsigned number."""
        return self._get(_known(name, self.signals_out, "output signal"))

    def run(
        self,
        sends: Mapping[str, object] | None = None,
        wants: Mapping[str, int] | None = None,
        *,
        max_cycles: int,
        stalls: Stalls | Mapping[str, Stall] | None = None,
        idle: int = 0,
        progress: Callable[[dict[str, int]], None] | None = None,
    ) -> StreamResult:
        """Send the payloads ``sends`` (by input) while taking ``wants`` beats (by output).

        All ports work at once, each as fast as it can but for its ``stalls``: for every port
        (sources and sinks), or by name. The run is over when everything moved; an output with no
        more beats wanted is not ready, and what it still offers waits for the next run. ``idle``
        cycles follow in which nothing is sent or taken. While an input has nothing to offer, its
        payload is the last one's complement. ``progress`` gets the beats moved by port, some times
        a second.

        Raises ``SimulationTimeout``, which names the ports that are short, after ``max_cycles``
        without the end; ``StreamRuleError`` if an output dropped ``valid`` or changed its payload
        before it was taken. After an error the design is in reset.
        """
        traffic = self._traffic(sends or {}, wants or {}, stalls)
        state, start = traffic.state, time.perf_counter()
        end: int | None = None
        try:
            for size in _sizes():
                if not state.left and end is None:
                    end = state.cycle
                limit = max_cycles if end is None else end + idle
                if state.cycle == limit:
                    break
                size = min(size, limit - state.cycle)
                self._simulate(traffic, size, not state.left)
                if state.fault:
                    raise StreamRuleError(
                        f"{self.simulator}: cycle {state.fault_cycle}: output "
                        f"{traffic.names[state.fault_port]} {FAULTS[state.fault]}"
                    )
                if progress:
                    progress(traffic.moved())
            if end is None:
                raise SimulationTimeout(self._short(traffic))
            waiting = self._waiting()
        except BaseException:
            self.reset()
            raise
        words = dict(zip(traffic.names, traffic.words, strict=True))
        offered = zip(self.outputs, waiting, strict=True)
        return StreamResult(
            beats={name: from_words(words[name], width) for name, width in self.outputs.items()},
            times=dict(zip(traffic.names, traffic.times, strict=True)),
            cycles=end,
            waiting=tuple(name for name, waits in offered if waits),
            seconds=time.perf_counter() - start,
        )

    def _traffic(self, sends, wants, stalls) -> Traffic:
        for name in sends:
            _known(name, self.inputs, "input stream")
        for name in wants:
            _known(name, self.outputs, "output stream")
        words = [
            to_words(sends.get(name, ()), width, f"input {name}")
            for name, width in self.inputs.items()
        ]
        for name, width in self.outputs.items():
            if wants.get(name, 0) < 0:
                raise GategradError(f"{wants[name]} beats of output {name} cannot be wanted")
            words.append(np.zeros((wants.get(name, 0), -(-width // 32)), np.uint32))
        return Traffic([*self.inputs, *self.outputs], words, self._stalls(stalls or {}))

    def _stalls(self, stalls) -> list[Stall]:
        """The stalls of every port, those of ``Stalls`` with a seed of its own for each."""
        if isinstance(stalls, Stalls):
            shares = [stalls.source] * len(self.inputs) + [stalls.sink] * len(self.outputs)
            return [(share, stalls.seed + (n << 32)) for n, share in enumerate(shares)]
        names = {**self.inputs, **self.outputs}
        for name, (share, _) in stalls.items():
            _known(name, names, "stream")
            if not 0 <= share < 1:
                raise GategradError(f"{name} cannot stall in a share of {share!r} of the cycles")
        return [stalls.get(name, (0.0, 0)) for name in names]

    def _short(self, traffic: Traffic) -> str:
        short = []
        for n, (name, port) in enumerate(zip(traffic.names, traffic.ports, strict=True)):
            if port.moved < port.count:
                kind = "input" if n < len(self.inputs) else "output"
                missing, done = port.count - port.moved, f"{port.moved} of {port.count} moved"
                short.append(f"{kind} {name} is {missing} beats short ({done})")
        return (
            f"{self.simulator}: after {traffic.state.cycle} cycles, {', '.join(short)}; raise the "
            "limit, or look for a stage that stands still"
        )


def _known(name: str, names: Mapping[str, int], what: str) -> str:
    if name not in names:
        there = ", ".join(names) or "none"
        raise GategradError(f"there is no {what} {name!r} (there are: {there})")
    return name


def _sizes() -> Iterator[int]:
    """Numbers of cycles to simulate, such that each takes some ``_LOOK`` seconds."""
    size = 256
    while True:
        start = time.perf_counter()
        yield size
        seconds = time.perf_counter() - start
        if seconds < _LOOK / 2:
            size *= 2
        elif seconds > _LOOK * 2:
            size = max(1, size // 2)
