"""A loss whose label and status are plain numbers, and its comparison with golden."""

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from support import check_events, event_ports, run_streams

from gategrad.golden import loss
from gategrad.golden.tally import Tally
from gategrad.hdl.loss import Loss
from gategrad.hdl.technology import PORTABLE


class Flat(wiring.Component):
    """``Loss`` with the bits of its label and of its status in one number each."""

    def __init__(self, dut: Loss):
        self.dut = dut
        ports = {
            "i": In(dut.i.signature.flip()),
            "label": In(stream.Signature(len(dut.label.payload.as_value()))),
            "o_delta": Out(dut.o_delta.signature),
            "status": Out(stream.Signature(len(dut.status.payload.as_value()))),
        }
        if dut.values:
            ports["i_target"] = In(dut.i_target.signature.flip())
        self.events = event_ports(dut)
        ports |= {name: dut.signature.members[name] for name in self.events}
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        for name, events in self.events.items():
            m.d.comb += getattr(self, name).eq(events)
        for name in self.signature.members.keys() - self.events.keys():
            here, there = getattr(self, name), getattr(dut, name)
            source, sink = (there, here) if name in ("o_delta", "status") else (here, there)
            payload = [getattr(p, "as_value", lambda p=p: p)() for p in (sink.payload,
                                                                         source.payload)]
            m.d.comb += [
                payload[0].eq(payload[1]), sink.valid.eq(source.valid), source.ready.eq(sink.ready)
            ]
        return m


def check_loss(spec, y, target, learn=None, *, technology=PORTABLE, record=None, **options):
    """Deltas and status of every sample, as golden has them; the component that made them."""
    y, target = np.asarray(y), np.asarray(target)
    learn = np.ones(len(y), int) if learn is None else np.asarray(learn, int)
    values = target.ndim == 2
    dut = Loss(spec, technology.simulated(), values)
    inputs = {
        "i": y.reshape(-1, 1).tolist(),
        "label": (learn if values else learn | np.maximum(target, 0) << 1).tolist(),
    }
    if values:
        inputs["i_target"] = target.reshape(-1, 1).tolist()
    counts = {"o_delta": y.size, "status": len(y)}
    tally, pulses = Tally(), {}
    got = run_streams(Flat(dut), inputs, counts, record=record, pulses=pulses, **options)
    delta, value, right = loss.forward(spec, y, target, learn.astype(bool), tally)
    assert np.array_equal(np.reshape(got["o_delta"], delta.shape), delta)
    bits = spec.loss_format.width
    wanted = [n | v << 1 | r << 1 + bits for n, v, r in zip(
        learn.tolist(), value.tolist(), right.astype(int).tolist(), strict=True)]  # fmt: skip
    assert [status for (status,) in got["status"]] == wanted
    check_events(pulses, delta_events=tally)
    dut.tally = tally
    return dut
