# amaranth: UnusedElaboratable=no
"""Inference whose weights and biases can be changed: gateware, order, files, and other models."""

import dataclasses
import json
import random

import numpy as np
import pytest
from amaranth.sim import Simulator
from small_models import noise

import gategrad
from gategrad import Dataset, GategradError, Input, Network, Quantisation, Training, layouts
from gategrad.core import Core, load_image
from gategrad.golden.format import Format
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE, Resources
from gategrad.image_layers import Conv2D, DepthwiseConv2D
from gategrad.layers import Dense, Flatten
from gategrad.loadable import WeightFile, for_any_weights, structure_hash
from gategrad.plan import Context
from gategrad.planner import plan

ROOM = Resources(luts=80_000, ffs=80_000, dsps=8, brams=30, sprams=4)


def other(model, seed=1):
    """``model`` with other weights and biases, any that its formats hold."""
    rng = np.random.default_rng(seed)
    params = {}
    for node in model.nodes:
        if node.name not in model.params:
            continue
        old, fmt = model.params[node.name], node.spec.weight
        bound = int(np.abs(old["bias"]).max()) * 2 + 5
        params[node.name] = {
            "weight": rng.integers(fmt.min, fmt.max + 1, old["weight"].shape),
            "bias": rng.integers(-bound, bound + 1, old["bias"].shape),
        }
    return model.replace(params=params)


def loadable_plan(model, technology, room=ROOM):
    return plan(for_any_weights(model), technology, room, loadable=True, most_lanes=16)


class Host:
    """What drives a core in Amaranth's simulator, without a link."""

    def __init__(self, ctx, core, seed=1):
        self.ctx, self.core, self.source = ctx, core, random.Random(seed)

    async def load(self, image):
        ctx, port = self.ctx, self.core.load
        for byte in image:
            ctx.set(port.payload[0], byte)
            ctx.set(port.valid, 1)
            ready = 0
            while not ready:
                *_, ready = await ctx.tick().sample(port.ready)
            ctx.set(port.valid, 0)
        await ctx.tick().repeat(32)

    async def dump(self, size, piece=0):
        ctx, port, got = self.ctx, self.core.dump, []
        ctx.set(self.core.piece, piece)
        ctx.set(self.core.dumping, 1)
        while len(got) < size:
            ready = self.source.random() < 0.7
            ctx.set(port.ready, ready)
            *_, valid, byte = await ctx.tick().sample(port.valid, port.payload[0])
            got += [int(byte)] * (valid and ready)
        ctx.set(self.core.dumping, 0)
        ctx.set(port.ready, 0)
        while not (await ctx.tick().sample(self.core.idle))[-1]:
            pass
        await ctx.tick().repeat(32)
        return bytes(got)

    async def run(self, x):
        ctx, core = self.ctx, self.core
        lanes_in, lanes_out = (len(port.payload) for port in (core.i, core.o))
        beats = [row[k : k + lanes_in] for row in x.tolist() for k in range(0, len(row), lanes_in)]
        got, sent = [], 0
        each = -(-core.outputs // lanes_out)
        while len(got) < len(x) * each:
            if sent < len(beats):
                for lane, value in enumerate(beats[sent]):
                    ctx.set(core.i.payload[lane], value)
            ctx.set(core.i.valid, sent < len(beats))
            ctx.set(core.o.ready, 1)
            *_, taken, valid, out = await ctx.tick().sample(
                core.i.ready, core.o.valid, core.o.payload
            )
            sent += bool(taken and sent < len(beats))
            if valid:
                got.append([int(out[lane]) for lane in range(lanes_out)])
        ctx.set(core.i.valid, 0)
        ctx.set(core.o.ready, 0)
        return np.array(got).reshape(len(x), -1)[:, : core.outputs]


def in_spram(model, vectors):
    """A plan whose first layer has its weights in single-port RAM."""
    planned = loadable_plan(model, ICE40UP)
    first = planned.nodes[0]
    context = Context(
        ICE40UP, planned.model.params[first.name], model.input.size, first=True, chain=True,
        hardware=16, soft=0, most=16, least=0, bram_bits=0, loadable=True,
    )  # fmt: skip
    options = layouts.dense(first.node, context)
    layout = next(option for option in options if option.folding.vectors == vectors)
    nodes = (dataclasses.replace(first, layout=layout), *planned.nodes[1:])
    return dataclasses.replace(planned, nodes=nodes)


PLANS = {
    "portable": lambda model: loadable_plan(model, PORTABLE),
    "ecp5": lambda model: loadable_plan(model, ECP5),
    "ecp5 logic": lambda model: loadable_plan(model, ECP5, dataclasses.replace(ROOM, brams=0)),
    "ice40": lambda model: loadable_plan(model, ICE40),
    "ice40up": lambda model: loadable_plan(model, ICE40UP),
    "spram": lambda model: in_spram(model, 1),
    "spram, pairs": lambda model: in_spram(model, 2),
}


@pytest.mark.parametrize("kind", PLANS)
def test_core(kind):
    model, _ = noise(12, 6)
    as_built_and_with_others(PLANS[kind](model), "spram" not in kind)


@pytest.mark.parametrize("technology", [ECP5, ICE40], ids=lambda t: t.name)
def test_convolutions(technology):
    """Depthwise too, and scales of their own: biases in a table in front of the multiplier."""
    random = np.random.default_rng(1)
    x, y = random.integers(0, 256, (40, 4, 4, 1)), np.arange(40) % 3
    data = Dataset("noise", x.astype(np.uint8), y, x[:9].astype(np.uint8), y[:9])
    layers = [
        Conv2D(2, 3, activation="relu", name="first", padding="same"),
        DepthwiseConv2D(3, activation="relu", name="each"),
        Flatten(),
        Dense(3, name="output"),
    ]
    network = Network(
        layers, Input((4, 4, 1), Format.parse("UQ0.8")), "pictures", Training(epochs=1),
        Quantisation(finetune=0, scale="free"),
    )  # fmt: skip
    as_built_and_with_others(loadable_plan(gategrad.train(network, data), technology), True)


def as_built_and_with_others(planned, known):
    """Run, read, run, and the same with other weights: golden's bits every time."""
    technology, model = planned.technology, planned.model
    file, core = WeightFile.of(planned), Core(planned, technology=technology.simulated())
    x = np.random.default_rng(3).integers(0, 256, (2, model.input.size))
    own, new = file.to_bytes(file.model), other(file.model)
    assert core.known == known
    assert own == load_image(core) and len(own) == core.load_bytes

    async def host(ctx):
        there = Host(ctx, core)
        for now in (file.model, new):
            if now is new or not core.known:
                await there.load(file.to_bytes(now))
            assert (await there.run(x) == now.forward(x)).all()
            assert await there.dump(core.load_bytes) == file.to_bytes(now)
            assert (await there.run(x) == now.forward(x)).all()

    sim = Simulator(core)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    sim.run()


def test_for_any_weights_computes_the_same():
    model, data = noise(16, 4)
    wide, x = for_any_weights(model), model.raw_inputs(data.x_test)
    for run in ("forward", "predict"):
        assert (getattr(wide, run)(x) == getattr(model, run)(x)).all()
    assert for_any_weights(wide).hash == wide.hash
    assert structure_hash(wide) == structure_hash(other(wide)) != structure_hash(model)
    # The very worst: every product at its extreme, and a bias as great as their sum.
    spec = wide.node("hidden").spec
    worst = {"weight": np.full((4, 16), spec.weight.min), "bias": np.full(4, -16 * 128 * 255)}
    wide.replace(params={**wide.params, "hidden": worst})


def test_files(tmp_path):
    model, _ = noise(12, 6)
    file = WeightFile.of(loadable_plan(model, ECP5))
    model.save(tmp_path / "model.npz")
    file.write(tmp_path)
    again = WeightFile.read(tmp_path)
    assert again.hash == file.hash and again.model.hash == file.model.hash
    new = other(file.model)
    assert again.from_bytes(again.to_bytes(new)).hash == new.hash
    assert len(again.to_bytes(new)) == again.size
    said = json.loads((tmp_path / "weights.json").read_text())
    for broken in (
        "{}", "[", "[" * 100_000, json.dumps(said | {"hash": "00"}),
        json.dumps(said | {"layers": {"hidden": said["layers"]["hidden"]}}),
        json.dumps(said | {"layers": {k: v | {"pe": 0} for k, v in said["layers"].items()}}),
        json.dumps(said | {"layers": {k: v | {"pe": 7} for k, v in said["layers"].items()}}),
    ):  # fmt: skip
        (tmp_path / "weights.json").write_text(broken)
        with pytest.raises(GategradError, match=r"weights\.json is damaged .* build again"):
            WeightFile.read(tmp_path)


def test_models_that_do_not_fit():
    model, _ = noise(12, 6)
    file = WeightFile.of(loadable_plan(model, ECP5))
    assert file.adapted(model).hash == file.model.hash
    output = model.node("output")
    spec = output.spec

    def changed(**changes):
        node = dataclasses.replace(output, spec=dataclasses.replace(spec, **changes))
        return model.replace(nodes=(model.nodes[0], node))

    wider = dataclasses.replace(spec.weight, width=9)
    hidden = dataclasses.replace(model.nodes[0], name="covert")
    params = {"covert": model.params["hidden"], "output": model.params["output"]}
    renamed = model.replace(
        nodes=(hidden, dataclasses.replace(output, inputs=("covert",))), params=params
    )
    for odd, message in (
        (changed(weight=wider), "layer 'output' of the model is .*only weights and biases"),
        (renamed, "the model has no layer 'hidden'; the board has"),
    ):
        with pytest.raises(GategradError, match=message):
            file.adapted(odd)
