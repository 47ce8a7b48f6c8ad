"""How the weights of a trainable layer lie in its memory, and which windows it goes through.

A *tile* is what the multipliers take in a cycle: ``pe`` filters by ``simd`` channels of one tap. A
dense layer is a convolution of one pixel and one tap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec
from gategrad.golden.window import WindowSpec
from gategrad.hdl.streams import beats


@dataclass(frozen=True)
class Tiles:
    """The order of tiles: groups, blocks of filters, taps, blocks of channels, then the biases.

    The bias of a filter is the weight of an input that is always one. It has a column of its own
    behind the last tap, or in a dense layer the first lane that the channels leave free.
    """

    spec: DenseSpec | ConvSpec
    pe: int
    simd: int

    @cached_property
    def window(self) -> WindowSpec:
        """The windows; of a dense layer one, of one pixel."""
        if isinstance(self.spec, ConvSpec):
            return self.spec.window
        return WindowSpec(1, 1, self.spec.inputs, (1, 1))

    @property
    def windowed(self) -> bool:
        """Whether there is more than one place to look at."""
        window = self.window
        return window.pixels * window.taps * window.height * window.width > 1

    @property
    def groups(self) -> int:
        """Parts of the channels that share no weights."""
        return self.spec.groups if isinstance(self.spec, ConvSpec) else 1

    @property
    def channels(self) -> int:
        """Channels that a filter sees."""
        return self.window.channels // self.groups

    @property
    def filters(self) -> int:
        """Filters (units) of a group."""
        all_of_them = self.spec.filters if isinstance(self.spec, ConvSpec) else self.spec.units
        return all_of_them // self.groups

    @property
    def channel_blocks(self) -> int:
        """Words that hold the channels of a tap."""
        return beats(self.channels, self.simd)

    @property
    def filter_blocks(self) -> int:
        """Words that hold the filters of a group."""
        return beats(self.filters, self.pe)

    @property
    def taps(self) -> int:
        """Pixels of a window."""
        return self.window.taps

    @property
    def own_bias(self) -> bool:
        """Whether the biases have tiles of their own, behind those of the taps."""
        return self.taps > 1 or self.channels % self.simd == 0

    @property
    def bias_lane(self) -> int:
        """The lane of the biases in the last tile of a filter."""
        return 0 if self.own_bias else self.channels % self.simd

    @property
    def blocks(self) -> int:
        """Tiles of a block of filters."""
        return self.taps * self.channel_blocks + self.own_bias

    @property
    def depth(self) -> int:
        """Tiles of the layer, which is rows of its memory."""
        return self.groups * self.filter_blocks * self.blocks

    @property
    def elements(self) -> int:
        """Weights of all tiles, padding among them."""
        return self.depth * self.pe * self.simd

    @property
    def columns(self) -> int:
        """Weights of a filter, with its bias."""
        return self.taps * self.channels + 1

    def steps(self, *, delta: bool, gradient: bool, hazard: int = 0) -> int:
        """Cycles in which a sample keeps the multipliers: forward, and in the jobs that there are
        of delta and gradient; ``hazard``: those that the gradients of a pixel take at least."""
        w = self.window
        back = w.height * w.width * self.groups * self.channel_blocks * self.taps
        return (
            w.pixels * self.depth
            + gradient * w.pixels * max(self.depth, hazard)
            + delta * back * self.filter_blocks
        )

    @cached_property
    def _places(self) -> np.ndarray:
        """Index into the weights (filters x columns, flat) of each tile's lanes; -1: padding."""
        pe, simd, units = self.pe, self.simd, self.groups * self.filters
        index = np.arange(units * self.columns).reshape(self.groups, self.filters, self.columns)
        padded = np.full((self.groups, self.filter_blocks * pe, self.blocks * simd), -1)
        taps = index[:, :, :-1].reshape(*index.shape[:2], self.taps, self.channels)
        room = np.full((*index.shape[:2], self.taps, self.channel_blocks * simd), -1)
        room[..., : self.channels] = taps
        padded[:, : self.filters, : self.taps * self.channel_blocks * simd] = room.reshape(
            *index.shape[:2], -1
        )
        bias = (self.blocks - 1) * simd + self.bias_lane
        padded[:, : self.filters, bias] = index[:, :, -1]
        tiles = padded.reshape(self.groups, self.filter_blocks, pe, self.blocks, simd)
        return tiles.transpose(0, 1, 3, 2, 4).reshape(self.depth, pe * simd)

    def fold(self, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """``weight`` and ``bias`` (both in the weights' format) as tiles: depth x (pe * simd),
        lane ``p * simd + s``; padding is zero."""
        units = self.groups * self.filters
        flat = np.concatenate(
            [np.reshape(params["weight"], (units, -1)), np.reshape(params["bias"], (units, 1))],
            axis=1,
        ).reshape(-1)
        return np.where(self._places < 0, 0, flat[self._places]).astype(np.int64)

    def unfold(self, tiles) -> dict[str, np.ndarray]:
        """The reverse of :meth:`fold`."""
        units = self.groups * self.filters
        flat = np.zeros(units * self.columns, np.int64)
        there = self._places >= 0
        flat[self._places[there]] = np.reshape(tiles, self._places.shape)[there]
        matrix = flat.reshape(units, self.columns)
        weight = matrix[:, :-1]
        if isinstance(self.spec, ConvSpec):
            weight = weight.reshape(self.spec.weight_shape)
        return {"weight": weight, "bias": matrix[:, -1]}

    def forward_rows(self, across: bool, words: int) -> list[int | None]:
        """For each place ``out * stride + tap * dilation`` along one axis, where the image has it:
        its offset in words, None for padding."""
        w, axis = self.window, int(across)
        size = (w.height, w.width)[axis]
        before, end = w.padding[axis], w.padded[axis]
        step = words if across else words * w.width
        return [
            (place - before) * step if 0 <= place - before < size else None for place in range(end)
        ]

    def backward_rows(self, across: bool, words: int) -> list[int | None]:
        """For each place ``in + (taps - 1 - tap) * dilation`` along one axis, the offset in words
        of the window that sees pixel ``in`` by that tap; None if there is none."""
        w, axis = self.window, int(across)
        size = (w.height, w.width)[axis]
        back = (w.kernel[axis] - 1) * w.dilation[axis]
        step = words if across else words * w.out_width
        out = (w.out_height, w.out_width)[axis]
        rows: list[int | None] = []
        for place in range(size + back):
            window, off = divmod(place - back + w.padding[axis], w.stride[axis])
            rows.append(window * step if off == 0 and 0 <= window < out else None)
        return rows
