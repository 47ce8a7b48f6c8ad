"""Streams of tensors: how the elements of a frame travel between components.

A *frame* is one sample's tensor. Its elements go ``lanes`` a beat, element 0 in lane 0 of the first
beat, channels fastest; the last beat is padded with zeros where the lanes do not divide the frame.
There is no ``last`` signal: every component knows its shapes and counts.
"""

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data, stream, wiring

from gategrad.golden.format import Format


def shape_of(fmt: Format) -> Shape:
    """The Amaranth shape of a number of format ``fmt``."""
    return signed(fmt.width) if fmt.signed else unsigned(fmt.width)


def tensor_stream(fmt: Format, lanes: int = 1) -> stream.Signature:
    """The signature of a stream that carries ``lanes`` elements of ``fmt`` a beat."""
    return stream.Signature(data.ArrayLayout(shape_of(fmt), lanes))


def beats(elements: int, lanes: int) -> int:
    """How many beats a frame of ``elements`` takes at ``lanes`` a beat."""
    return -(-elements // lanes)


def one_a_cycle(times, start: int = 0) -> list[int]:
    """``times`` at which beats are ready to go, delayed so that no two go in the same cycle."""
    result: list[int] = []
    for time in times:
        result.append(max(time, result[-1] + 1 if result else start))
    return result


def gated(m, source, open, name: str):
    """``source`` while ``open``, which does not fall while a beat waits."""
    gate = stream.Signature(source.payload.shape()).create(path=(name,))
    m.d.comb += [
        gate.payload.eq(source.payload),
        gate.valid.eq(source.valid & open),
        source.ready.eq(gate.ready & open),
    ]
    return gate


def connect(m, source, sink) -> None:
    """Connect output stream ``source`` to input stream ``sink`` of the very same payload shape.

    ``wiring.connect`` compares widths only, so signed into unsigned or two lanes of four bits into
    one of eight would pass. Raises ``TypeError`` when the shapes differ.
    """
    a, b = source.payload.shape(), sink.payload.shape()
    if a != b:
        raise TypeError(f"stream of {a!r} cannot feed a stream of {b!r}")
    wiring.connect(m, source, sink)
