"""The loops of a line buffer: which beat of which window it is, and what changes after it."""

from collections.abc import Iterable, Sequence

from amaranth.hdl import Cat, Module, Signal

from gategrad.hdl.counter import count
from gategrad.hdl.window_schedule import Growth, usual

#: Innermost first: slices of a pixel's channels, taps across and down, repeats of the window,
#: groups of channels, windows of a row, rows.
LOOPS = ("slice", "across", "down", "repeat", "group", "column", "row")
_WINDOW = LOOPS[:5]


class WindowLoops:
    """Counters of the loops, a beat ahead: what depends on them is in registers when it is used.

    ``issue``: the present beat ends; ``sizes``: iterations of each of :data:`LOOPS`.
    """

    def __init__(self, m: Module, issue: Signal, sizes: Sequence[int]):
        self.m, self.issue = m, issue
        #: The loop that goes on after the first beat.
        self.first = next((k for k, size in enumerate(sizes) if size > 1), len(sizes))
        self.counts, self.lasts, step = {}, {}, issue
        for loop, (name, size) in enumerate(zip(LOOPS, sizes, strict=True)):
            start = int(loop == self.first)
            self.counts[name], self.lasts[name] = count(m, step, size, name, start)
            step = step & self.lasts[name]

    def step(self, values: Sequence[int], name: str) -> Signal:
        """Of ``values``, the one of the loop that goes on after the present beat; the last of them
        if the frame is over."""
        ahead = _signal(values, f"{name}_ahead")
        self.m.d.comb += ahead.eq(values[-1])
        for loop, value in reversed(list(zip(LOOPS, values, strict=False))):
            with self.m.If(~self.lasts[loop]):
                self.m.d.comb += ahead.eq(value)
        return self._held(ahead, values[self.first], name)

    def window_step(self, growth: Growth, name: str) -> Signal:
        """What a count grows by after the present beat: nothing but after the last of a window."""
        m, counts = self.m, self.counts
        ahead = _signal((*growth.columns, *growth.ends), f"{name}_ahead")
        with m.If(Cat(self.lasts[loop] for loop in _WINDOW).all()):
            with m.If(self.lasts["column"]):
                self._cases(counts["row"], growth.ends, ahead)
            with m.Else():
                self._cases(counts["column"], growth.columns, ahead)
                if growth.still:
                    with m.If(counts["row"].matches(*growth.still)):
                        m.d.comb += ahead.eq(0)
        return self._held(ahead, growth[0, 0] if self.first >= len(_WINDOW) else 0, name)

    def _cases(self, at: Signal, values: Sequence[int], result: Signal) -> None:
        common, others = usual(values)
        with self.m.Switch(at):
            for value, places in others.items():
                with self.m.Case(*places):
                    self.m.d.comb += result.eq(value)
            with self.m.Default():
                self.m.d.comb += result.eq(common)

    def _held(self, ahead: Signal, init: int, name: str) -> Signal:
        """What was computed of the beat ahead, when that is the present one."""
        held = Signal(ahead.shape(), name=name, init=init)
        with self.m.If(self.issue):
            self.m.d.sync += held.eq(ahead)
        return held


def _signal(values: Iterable[int], name: str) -> Signal:
    """Wide enough for ``values`` and 0."""
    return Signal(range(min(0, *values), max(0, *values) + 1), name=name)


def steps(sizes: Sequence[int], strides: Sequence[int], around: int) -> list[int]:
    """What an address moves by when loop ``k`` goes on and every loop inside it starts again.

    ``sizes``: iterations of each loop, innermost first; ``strides``: what one iteration is worth;
    ``around``: what starting all over again is worth, the last of the result.
    """
    result, back = [], 0
    for size, stride in zip([*sizes, 1], [*strides, around], strict=True):
        result.append(stride - back)
        back += (size - 1) * stride
    return result
