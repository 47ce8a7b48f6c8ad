"""States with a flip-flop each: what depends on a state depends on one bit."""

from collections.abc import Iterator
from contextlib import contextmanager

from amaranth.hdl import Cat, Module, Signal


class OneHot:
    """A finite state machine in ``m``, used as Amaranth's is, that begins in state ``first``.

        with OneHot(m, "IDLE") as fsm:
            with fsm.state("IDLE"), m.If(start):
                fsm.next = "BUSY"
            with fsm.state("BUSY"):
                ...

    Of several ``next`` in a state the last one counts. Where numbered states are two LUTs to tell
    apart this is one flip-flop each: shallower next states, and fewer LUTs if states decide about
    little data. A long choice of data by state is better off with numbers.

    Raises ``ValueError`` for a state that is described twice or not at all.
    """

    def __init__(self, m: Module, first: str):
        self.m, self.first = m, first
        self._now: dict[str, Signal] = {}
        #: Of each state that is described: for every other, whether it goes there.
        self._goes: dict[str, dict[str, Signal]] = {}
        self._within = first

    def __enter__(self) -> "OneHot":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self._close()

    def ongoing(self, name: str) -> Signal:
        """Whether it is in state ``name``."""
        if name not in self._now:
            self._now[name] = Signal(name=f"in_{name.lower()}", init=name == self.first)
        return self._now[name]

    @contextmanager
    def state(self, name: str) -> Iterator[None]:
        """What happens in state ``name``."""
        if name in self._goes:
            raise ValueError(f"state {name} is described twice")
        self._within, self._goes[name] = name, {}
        with self.m.If(self.ongoing(name)):
            yield

    def _set_next(self, name: str) -> None:
        goes = self._goes[self._within]
        self.ongoing(name)
        if name not in goes:
            goes[name] = Signal(name=f"{self._within.lower()}_to_{name.lower()}")
        # Those before are overruled.
        self.m.d.comb += [signal.eq(other == name) for other, signal in goes.items()]

    next = property(None, _set_next)

    def _close(self) -> None:
        if missing := self._now.keys() - self._goes.keys():
            raise ValueError(f"nobody describes state {', '.join(sorted(missing))}")
        for name, now in self._now.items():
            comes = Cat(goes[name] for goes in self._goes.values() if name in goes).any()
            leaves = Cat(self._goes[name].values()).any()
            self.m.d.sync += now.eq(comes | (now & ~leaves))
