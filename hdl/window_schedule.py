"""Which pixels windows need and which they have done with, as they slide over frame after frame."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from gategrad.golden.window import WindowSpec


@dataclass(frozen=True)
class WindowSchedule:
    """What the windows of ``spec`` need in which order, ``vectors`` of them taken side by side.

    Pixels are counted in the order in which they come, from 0 in every frame.
    """

    spec: WindowSpec
    vectors: int = 1

    @property
    def pixels(self) -> int:
        """Pixels of a frame."""
        return self.spec.height * self.spec.width

    @cached_property
    def needed(self) -> np.ndarray:
        """Pixels that must have come before each window is played: rows x windows of a row.

        It never falls: what windows in the padding below need has come for those above.
        """
        spec = self.spec
        rows, columns = self._origins
        reach = spec.extent[1] + (self.vectors - 1) * spec.stride[1]
        bottom = np.clip(rows + spec.extent[0] - 1, 0, spec.height - 1)
        right = np.clip(columns + reach - 1, 0, spec.width - 1)
        last = bottom[:, None] * spec.width + right
        return np.maximum.accumulate(last.ravel()).reshape(last.shape) + 1

    @cached_property
    def finished(self) -> np.ndarray:
        """Pixels that neither each window nor any later one needs: rows x windows of a row."""
        spec = self.spec
        rows, columns = self._origins
        # A window that starts below the image needs nothing of it.
        left = np.where(rows[:, None] < spec.height, np.clip(columns, 0, spec.width - 1), 0)
        first = np.clip(rows, 0, spec.height)[:, None] * spec.width + left
        return np.minimum.accumulate(first.ravel()[::-1])[::-1].reshape(first.shape)

    @property
    def _origins(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the upper left pixel, by row and by window of a row."""
        spec = self.spec
        rows = np.arange(spec.out_height) * spec.stride[0] - spec.padding[0]
        columns = np.arange(0, spec.out_width, self.vectors) * spec.stride[1] - spec.padding[1]
        return rows, columns

    @cached_property
    def least(self) -> int:
        """Pixels that have to be held at the same time, or no window would ever be complete."""
        return int((self.needed - self.finished).max())

    @cached_property
    def capacity(self) -> int:
        """Pixels with which an even flow in and an even flow out never wait for each other.

        The image's ``M`` pixels come evenly, its ``N`` windows go evenly, as early as what they
        need allows; what has come and is not finished has to be held. Frames follow each other, so
        that the next one comes in while the last windows go. Two pixels more are on their way.
        """
        need, done = self.needed.ravel(), self.finished.ravel()
        start = np.arange(need.size) / need.size
        lag = (need / self.pixels - start).max()
        come = np.ceil(self.pixels * (start + 1 / need.size + lag) - 1e-9)
        return max(int((come - done).max()), self.least) + 2

    @cached_property
    def ahead(self) -> int:
        """Pixels at most that are finished before they have come, as no window sees them."""
        return max(0, int((self._following(self.finished) - self.needed.ravel()).max()))

    @cached_property
    def wait(self) -> int:
        """Pixels at most that a window needs more than the one before."""
        more = self._following(self.needed) - self.needed.ravel()
        return max(int(more.max()), int(self.needed[0, 0]))

    @cached_property
    def exceptions(self) -> int:
        """Windows after which more or less than usual is needed or finished: logic that tells
        them."""
        growths = [Growth.of(values, self.pixels) for values in (self.needed, self.finished)]
        others = [usual(part)[1] for g in growths for part in (g.columns, g.ends)]
        places = sum(len(at) for other in others for at in other.values())
        return places + sum(len(g.still) for g in growths)

    def _following(self, values: np.ndarray) -> np.ndarray:
        """For each window what ``values`` says of the next, the last's being in the next frame."""
        flat = values.ravel()
        return np.append(flat[1:], flat[0] + self.pixels)


@lru_cache(maxsize=1024)
def schedule(spec: WindowSpec, vectors: int = 1) -> WindowSchedule:
    """The schedule, made once for all who ask."""
    return WindowSchedule(spec, vectors)


@dataclass(frozen=True)
class Growth:
    """By how much a count grows from each window to the next, in the fewest cases.

    ``columns`` holds for the windows of every row but the last of each, except in rows ``still``,
    where nothing grows; ``ends`` is from a row's last window to the first of the next.
    """

    columns: tuple[int, ...]
    ends: tuple[int, ...]
    still: tuple[int, ...]

    @classmethod
    def of(cls, values: np.ndarray, frame: int) -> "Growth":
        """Of a count, rows x windows of a row, that goes on by ``frame`` in the next frame."""
        moves = values[:, -1] != values[:, 0]
        columns = np.diff(values[moves.argmax()])
        ends = np.append(values[1:, 0], values[0, 0] + frame) - values[:, -1]
        still = () if not moves.any() else np.flatnonzero(~moves)
        return cls(*(tuple(int(v) for v in each) for each in (columns, ends, still)))

    def __getitem__(self, window: tuple[int, int]) -> int:
        """From the window in this row and column to the next."""
        row, column = window
        if column == len(self.columns):
            return self.ends[row]
        return 0 if row in self.still else self.columns[column]


def bound(spec: WindowSpec) -> int:
    """What a line buffer is known to need: all rows of the window but one, and the window's width,
    in pixels."""
    return (spec.extent[0] - 1) * spec.width + spec.extent[1]


def usual(values: Sequence[int]) -> tuple[int, dict[int, list[int]]]:
    """The most common of ``values``, and where the others are, by value."""
    common = Counter(values).most_common(1)[0][0] if values else 0
    others: dict[int, list[int]] = {}
    for at, value in enumerate(values):
        if value != common:
            others.setdefault(value, []).append(at)
    return common, others
