"""What can learn, what is refused by name, and settings that become formats and integers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from learning_support import GRAPHS, IMAGE, learning, network, samples

from gategrad import Dense, GategradError, Network
from gategrad.golden import dense
from gategrad.golden.format import Format
from gategrad.golden.lookup import LookupSpec
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.update import UpdateRounding
from gategrad.graph import Input, Learn
from gategrad.image_layers import BatchNorm, Conv2D, Grey
from gategrad.layers import Activation, Flatten
from gategrad.learning import Learning, any_weights, gradient_format
from gategrad.learning_formats import learning_model
from gategrad.model import Node
from gategrad.quantisers import Grid


def changed(made: Learning, name: str, **changes) -> dict:
    """Fields of a learning whose node ``name`` has another specification."""
    nodes = tuple(
        replace(node, spec=replace(node.spec, **changes)) if node.name == name else node
        for node in made.model.nodes
    )
    return {"model": made.model.replace(nodes=nodes)}


def multiplied(form: RequantiseSpec) -> RequantiseSpec:
    return replace(form, multipliers=(3,), shift=max(0, form.shift))


WRONG = {
    "no layer": (lambda m: {"updates": {}}, "no layer is trainable"),
    "batch": (lambda m: {"batch": 0}, "batch must be at least 1"),
    "no weights": (
        lambda m: {"updates": {"sum": m.updates["a"], **m.updates}}, "'sum': has no weights"),
    "order": (
        lambda m: {"updates": dict(reversed(m.updates.items()))}, "must be in the order"),
    "no delta": (
        lambda m: {"deltas": {k: v for k, v in m.deltas.items() if k != "pool"}},
        "'pool': has no format for its deltas"),
    "unsigned delta": (
        lambda m: {"deltas": {**m.deltas, "a": Format(16, 9, signed=False)}}, "'a': deltas are"),
    "needless delta": (
        lambda m: {"updates": {"out": m.updates["out"]}}, "'a': needs no delta"),
    "narrow gradient": (
        lambda m: {"batch": 64}, "'a': gradients of .* do not hold"),
    "weight format": (
        lambda m: {"updates": {**m.updates, "b": replace(m.updates["b"], weight=Format(9, 3))}},
        "'b': weights are"),
    "multipliers": (
        lambda m: changed(m, "b", requantise=multiplied(m.model.node("b").spec.requantise)),
        "'b': has multipliers"),
    "zero point": (
        lambda m: changed(m, "b", requantise=replace(
            m.model.node("b").spec.requantise, zero_point=1)), "'b': has zero points"),
    "ends": (
        lambda m: changed(m, "out", requantise=replace(
            m.model.node("out").spec.requantise, low=0)), "'out': has ends of its own"),
    "fill": (lambda m: changed(m, "b", fill=1), "'b': has padding that is not 0"),
    "shift": (
        lambda m: changed(m, "sum", requantise=replace(
            m.model.node("sum").spec.requantise, shift=9)), "'sum': has a shift of 9"),
    "factors": (
        lambda m: changed(m, "sum", factors=m.model.node("sum").spec.coefficients),
        "'sum': has factors"),
    "narrow accumulator": (
        lambda m: changed(m, "b", requantise=replace(
            m.model.node("b").spec.requantise, acc=replace(
                m.model.node("b").spec.acc, width=m.model.node("b").spec.acc.width - 1))),
        "'b': accumulator .* overflows with some weights"),
    "bias": (
        lambda m: {"model": m.model.replace(params={**m.model.params, "b": {
            **m.model.params["b"], "bias": m.model.params["b"]["bias"] + 1}})},
        "'b': its bias is not"),
    "grid": (
        lambda m: {"model": m.model.replace(grids={"a": Grid(m.model.node("a").out, 0.1, 0)})},
        "'a': its integers stand for"),
    "loss": (
        lambda m: {"loss": replace(m.loss, delta=Format(16, 3))}, "its loss takes"),
    "classes": (lambda m: {"loss": replace(m.loss, classes=4)}, "3 outputs, its loss 4 classes"),
    "rates": (lambda m: {"rates": ((1, 5),)}, "rise from update 0"),
    "rate": (lambda m: {"rates": ((0, 1 << 16),)}, "a rate is 1 to"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_learn_is_named(what):
    change, message = WRONG[what]
    made = learning("residual")
    with pytest.raises(GategradError, match=message):
        replace(made, **change(made))


def test_a_lookup_stops_deltas_but_may_stand_before_what_learns():
    made = learning("dense", Learn(activation_bits=8))
    x = made.model.input.format
    table = Node("table", "lookup", ("input",), LookupSpec(x, x, tuple(range(x.min, x.max + 1))))
    first, last = made.model.nodes
    model = made.model.replace(nodes=(table, replace(first, inputs=("table",)), last))
    assert replace(made, model=model).dx_formats(model.node("a")) == (None,)
    out = first.out
    behind = Node("table", "lookup", ("a",), LookupSpec(out, out, (0,) * (out.max + 1)))
    model = made.model.replace(nodes=(first, behind, replace(last, inputs=("table",))))
    with pytest.raises(GategradError, match="'table': operation 'lookup' has no derivative"):
        replace(made, model=model, deltas={**made.deltas, "table": Format(16, 8)})


def test_inputs_without_a_unit_below_one():
    net = replace(network("dense"), input=Input((6, 6, 2), Format(8, -1)))
    with pytest.raises(GategradError, match=r"'a': its input Q9\.-1 has no unit of 1 or below"):
        learning_model(net, None, Learn(rate=1e-3), samples())


@pytest.mark.parametrize("x", [Format(3, 1), Format(3, 5), Format(3, 4, signed=False)])
def test_accumulators_hold_any_weights(x):
    """The narrowest that do: sums of the extremes are inside, and reach the upper half."""
    weight, inputs = Format(4, 2), 5
    acc = any_weights(x, weight, inputs)
    ends = []
    for w in (weight.min, weight.max):
        for value in (x.min, x.max):
            for bias in (weight.min, weight.max):
                ends.append(inputs * w * value + (bias << x.frac))
                params = {"weight": np.full((1, inputs), w), "bias": np.array([bias << x.frac])}
                exact = dense.acc_format(params["weight"], params["bias"], x, acc.frac)
                assert exact.width <= acc.width
    assert acc.holds(ends) and not Format(acc.width - 1, acc.frac).holds(ends)


def test_gradients_hold_any_sum():
    made = learning("residual", Learn(batch=3))
    node, delta = made.model.node("b"), made.deltas["b"]
    fmt = gradient_format(node, delta, 3)
    terms = 3 * 36  # each pixel of each sample
    ends = [terms * d * x for d in (delta.min, delta.max) for x in (node.x.max, 1 << node.x.frac)]
    assert fmt.holds(ends) and not Format(fmt.width - 1, fmt.frac).holds(ends)
    assert made.updates["b"].gradient == fmt


@pytest.mark.parametrize("name", GRAPHS)
def test_formats_of_graphs(name):
    """Widths are those of the settings, the tensors of the model have deltas, and no tensor leaves
    its format in the run that they were chosen from."""
    made = learning(name, Learn(weight_bits=14, activation_bits=12, delta_bits=13))
    assert made.trainable == tuple(n.name for n in made.model.nodes if n.op in ("dense", "conv"))
    for node in made.model.nodes:
        if node.op != "pool" or node.spec.kind == "sum":
            assert node.out.width == 12, node.name
        if made.needs_delta(node.name):
            assert made.deltas[node.name].width == 13
    assert all(update.weight.width == 14 for update in made.updates.values())
    assert made.model.info["notes"] == []
    assert not made.needs_delta("first" if name == "pools" else "input")


def test_formats_have_room():
    """Twice what the float run reached, and no more than eight times."""
    made, data = learning("residual"), samples()
    fmt = made.model.node("sum").out
    reached = made.model.trace(data.x_train)["sum"].max()
    assert fmt.max / 16 < reached < fmt.max


def test_formats_by_name():
    own = {"a": "UQ4.6", "a.weight": "Q3.9", "sum.delta": "Q2.9"}
    made = learning("residual", Learn(formats=own))
    assert str(made.model.node("a").out) == "UQ4.6"
    assert made.updates["a"].weight == Format(12, 9)
    assert made.deltas["sum"] == Format(11, 9)
    for name, fmt, message in (
        ("a", "Q4.6", "a must be unsigned"), ("b.weight", "UQ4.6", r"b\.weight must be signed"),
        ("c", "Q4.6", "no tensor 'c'"), ("pool", "UQ4.6", "no tensor 'pool'"),
    ):  # fmt: skip
        with pytest.raises(GategradError, match=message):
            learning("residual", Learn(formats={name: fmt}))
    tight = learning("residual", Learn(formats={"sum": "UQ-2.10"}))
    assert any(note.startswith("sum reaches") for note in tight.model.info["notes"])


@pytest.mark.parametrize("own, message, fits", [
    ({"b.weight": "Q40.4"}, r"layer 'b': sums of 6 inputs of UQ8.22 times weights of Q40.4 exceed"
     " 62 bits: .* have 74 bits together, and may have 59; they come from .*weight_bits",
     {"b.weight": "Q25.4"}),
    ({"b.weight": "Q40.4", "b.delta": "Q1.19", "a": "UQ2.2"}, "layer 'b': sums of 3 deltas of "
     "Q1.19 times weights of Q40.4 .* may have 60;", {"b.weight": "Q36.4"}),
    ({"b.delta": "Q1.23", "a": "UQ20.16"}, "layer 'b': sums of 8 deltas of Q1.23 times inputs of "
     r"UQ20.16 .* may have 58; they come from .*\[learn\] formats", {"b.delta": "Q1.21"}),
    ({"b": "Q40.4"}, r"layer 'b': outputs of .* up to 32 bits, not 44; see \[learn\] formats",
     {"b": "Q28.4"}),
])  # fmt: skip
def test_formats_that_are_too_wide_are_named_with_those_that_are_not(own, message, fits):
    own = {"a": "UQ8.22", "b.weight": "Q4.4"} | own
    with pytest.raises(GategradError, match=message):
        learning("dense", Learn(formats=own))
    assert learning("dense", Learn(formats=own | fits))


def test_rates_that_do_nothing_or_too_much():
    nearest = Learn(rate=1e-6, rounding="nearest", weight_bits=8)
    with pytest.raises(GategradError, match="layer 'a': every update would round to zero"):
        learning("dense", nearest)
    assert learning("dense", replace(nearest, rounding="stochastic", weight_bits=16))
    with pytest.raises(GategradError, match=r"layer '[ab]': updates saturate"):
        learning("dense", Learn(rate=4.0, epochs=1, formats={"a.weight": "Q-2.16"}))
    with pytest.raises(GategradError, match=r"layer 'a': \[learn\] rate: .* take a lower one"):
        learning("dense", Learn(rate=1000.0, epochs=1))
    with pytest.raises(GategradError, match="diverges in floating point"):
        learning("dense", Learn(rate=1000.0, loss="squared_error", epochs=100))


def test_networks_that_cannot_learn():
    def made(*layers, trainable=True, shape=IMAGE):
        net = Network(layers, shape, trainable=trainable)
        return learning_model(net, None, Learn(), samples())

    with pytest.raises(GategradError, match="no layer is trainable; write trainable = true"):
        made(Flatten(), Dense(3), trainable=False)
    with pytest.raises(GategradError, match="'norm': a batch normalisation"):
        made(Conv2D(2, 3), BatchNorm(name="norm"), Flatten(), Dense(3))
    with pytest.raises(GategradError, match="'c': bias = false"):
        made(Conv2D(2, 3, bias=False, name="c"), Flatten(), Dense(3))
    frozen = made(Flatten(), Dense(4, trainable=False, name="a"), Dense(3, name="b"))
    assert frozen.trainable == ("b",) and "a" not in frozen.deltas
    later = made(Flatten(), Dense(4, name="a"), Dense(3, trainable=False, name="b"))
    assert later.trainable == ("a",) and set(later.deltas) == {"a", "b"}


def test_grey_may_stand_before_what_learns():
    net = Network((Grey(), Flatten(), Dense(3)), Input((4, 4, 3)), trainable=True)
    data = samples()
    x = np.random.default_rng(1).integers(0, 256, (64, 4, 4, 3), np.uint8)
    made = learning_model(net, None, Learn(), replace(data, x_train=x, x_test=x))
    assert made.trainable == ("dense1",)


def test_derivatives_that_jump_get_outputs_that_a_table_takes():
    net = Network((Flatten(), Dense(4), Activation("hard_sigmoid", name="h"), Dense(3)), IMAGE,
                  trainable=True)  # fmt: skip
    assert learning_model(net, None, Learn(), samples()).model.node("h").out.width == 10


def test_settings_become_integers():
    """Rates, decay, momentum and clipping stand for the real ones."""
    settings = Learn(rate=0.1, batch=6, momentum=0.9, weight_decay=0.01, clip=0.5, nesterov=True,
                     rounding="discarded")  # fmt: skip
    made = learning("residual", settings)
    for update in made.updates.values():
        units = 2.0 ** (update.gradient.frac - update.weight.frac)
        factor = math.ldexp(update.rate, -update.shift)
        assert factor * units == pytest.approx(0.1 / 6, rel=0.004)
        assert math.ldexp(update.decay, -update.shift) == pytest.approx(0.001, rel=0.04)
        assert update.momentum[0] / 2 ** update.momentum[1] == pytest.approx(0.9, rel=0.01)
        assert update.nesterov and update.rounding is UpdateRounding.DISCARDED
        if update.clip is not None:
            assert update.gradient.step * 2**update.clip == 4  # 0.5 * 6, to a power of two
    assert any(update.clip is not None for update in made.updates.values())
