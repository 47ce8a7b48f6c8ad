"""The network as its author describes it: layers, tensors and shapes, no hardware.

From Python::

    Network([Dense(32, activation="relu", name="hidden"), Dense(10, name="output")], input=784)

or from a TOML file, where the same fields are keys (see ``examples/``)::

    network = Network.load("mnist.toml")
"""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gategrad.errors import GategradError
from gategrad.layers import Activation, Layer
from gategrad.learn_options import Learn
from gategrad.operations import LAYERS, OPERATIONS, Shape
from gategrad.options import Input, Quantisation, Training
from gategrad.settings import suggest

INPUT = "input"  # name of the node that layers without a predecessor take


@dataclass(frozen=True)
class GraphNode:
    """One operation of the float graph: ``inputs`` are node names, ``shape`` that of the output."""

    name: str
    op: str
    inputs: tuple[str, ...]
    layer: Layer
    shape: Shape
    input_shapes: tuple[Shape, ...]

    @property
    def parameters(self) -> dict[str, Shape]:
        """Shapes of the parameters by name."""
        return OPERATIONS[self.op].parameters(self.layer, self.input_shapes)


@dataclass(frozen=True)
class Network:
    """A network of layers; ``nodes`` are its operations in an order in which they can run.

    ``layers``: a list of :class:`~gategrad.layers.Layer`, the last one is the output; ``input``:
    :class:`Input`, or a shape; ``trainable``: whether layers learn in hardware that do not say
    otherwise, as ``learning`` says. A layer with an activation becomes two nodes, ``hidden`` and
    ``hidden_relu``; other layers take the activated one under the layer's name.

    Raises :class:`GategradError` naming file, layer and key.
    """

    layers: tuple[Layer, ...]
    input: Input
    name: str = "network"
    training: Training = field(default_factory=Training)
    quantisation: Quantisation = field(default_factory=Quantisation)
    learning: Learn = field(default_factory=Learn)
    trainable: bool = False
    source: str = field(default="", compare=False)
    nodes: tuple[GraphNode, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shape = self.input
        put = object.__setattr__
        put(self, "layers", tuple(self.layers))
        put(self, "input", shape if isinstance(shape, Input) else Input(shape))
        put(self, "nodes", _connect(self.layers, self.input.shape, self._where))

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """What each layer takes, by its name, in the order of the description: names of layers, or
        ``"input"``."""
        return _sources(self.layers, _names(self.layers, self._where))

    @property
    def output(self) -> GraphNode:
        """The node whose values are the network's."""
        return self.nodes[-1]

    @property
    def outputs(self) -> int:
        """Elements of a result."""
        return math.prod(self.output.shape)

    def node(self, name: str) -> GraphNode:
        """The node called ``name``; raises ``KeyError``."""
        return {n.name: n for n in self.nodes}[name]

    def _where(self, name: str = "") -> str:
        return ": ".join(p for p in (self.source, f"layer {name!r}" if name else "") if p)

    @classmethod
    def load(cls, path: str | Path) -> "Network":
        """Read a TOML file.

        Raises :class:`GategradError` for a file that is missing, no TOML or no network.
        """
        path = Path(path)
        try:
            text = path.read_bytes().decode("utf-8")
            table = tomllib.loads(text)
        except FileNotFoundError:
            raise GategradError(f"{path}: no such file") from None
        except IsADirectoryError:
            raise GategradError(f"{path}: is a folder; name the .toml file in it") from None
        except UnicodeDecodeError:
            raise GategradError(f"{path}: is no text file; a network is a .toml file") from None
        except tomllib.TOMLDecodeError as error:
            raise GategradError(f"{path}: not valid TOML: {error}") from None
        except OSError as error:
            raise GategradError(f"{path}: cannot be read: {error.strerror}") from None
        return cls.from_table(table, str(path), default_name=path.stem)

    @classmethod
    def from_table(cls, table: Mapping[str, Any], source: str = "", default_name="network"):
        """Make from nested tables, as TOML or JSON hold them."""
        at = f"{source}: " if source else ""
        known = ("name", "trainable", "input", "layers", "train", "quantise", "learn")
        for name in table:
            if name not in known:
                raise GategradError(f"{at}unknown key {name!r}{suggest(name, known)}")
        for name in ("input", "layers"):
            if name not in table:
                how = "[input] with shape = [784]" if name == "input" else "at least one [[layers]]"
                raise GategradError(f"{at}key {name!r} is missing; write {how}")
        name = table.get("name", default_name)
        if not isinstance(name, str) or not name:
            raise GategradError(f"{at}name must be text, not {name!r}")
        trainable = table.get("trainable", False)
        if not isinstance(trainable, bool):
            raise GategradError(f"{at}trainable must be true or false, not {trainable!r:.40}")
        if not isinstance(table["layers"], list):
            raise GategradError(f"{at}layers must be a list of tables; write [[layers]]")
        return cls(
            tuple(_layer(t, i, at) for i, t in enumerate(table["layers"], 1)),
            Input.from_table(table["input"], f"{at}[input]"),
            name,
            Training.from_table(table.get("train", {}), f"{at}[train]"),
            Quantisation.from_table(table.get("quantise", {}), f"{at}[quantise]"),
            Learn.from_table(table.get("learn", {}), f"{at}[learn]"),
            trainable,
            source,
        )

    def table(self) -> dict[str, Any]:
        """The description as nested plain tables; :meth:`from_table` takes them back."""
        return {
            "name": self.name,
            "input": {"shape": list(self.input.shape), "format": str(self.input.format)},
            "layers": [{"type": lay.TYPE, **lay.table()} for lay in self.layers],
            "train": self.training.table(),
            "quantise": self.quantisation.table(),
        } | ({"trainable": True} if self.trainable else {}) | (
            {"learn": self.learning.table()} if self.learning != Learn() else {}
        )


def _layer(table: Any, number: int, at: str) -> Layer:
    if not isinstance(table, Mapping):
        raise GategradError(f"{at}layer {number}: must be a table of keys, not {table!r}")
    name = table.get("name")
    where = f"{at}layer {name!r}" if isinstance(name, str) and name else f"{at}layer {number}"
    keys = dict(table)
    kind = keys.pop("type", None)
    if kind is None:
        raise GategradError(f"{where}: key 'type' is missing; known: {', '.join(LAYERS)}")
    if not isinstance(kind, str):
        raise GategradError(f"{where}: type must be text, not {kind!r:.40}")
    if kind not in LAYERS:
        close = suggest(kind, LAYERS)
        known = "" if "known:" in close else f" Known: {', '.join(LAYERS)}."
        raise GategradError(f"{where}: unknown type {kind!r}{close}{known}")
    return LAYERS[kind].layer.from_table(keys, where)  # type: ignore[union-attr]


def _names(layers: Sequence[Layer], where) -> list[str]:
    """A unique name for every layer."""
    if not layers:
        at = where()
        raise GategradError(f"{at}{': ' if at else ''}a network needs at least one layer")
    names: list[str] = []
    for number, layer in enumerate(layers, 1):
        if not isinstance(layer, Layer):
            raise GategradError(f"layer {number} is {layer!r}, which is no layer such as Dense(10)")
        name = layer.name  # type: ignore[attr-defined]
        if name is None:
            name = f"{layer.TYPE}{sum(other.TYPE == layer.TYPE for other in layers[:number])}"
        if not re.fullmatch(r"[A-Za-z_/][\w./:-]*", name) or name == INPUT:
            raise GategradError(
                f"{where(name)}: name must start with a letter, hold letters, digits and _./:- "
                f"only, and not be {INPUT!r}"
            )
        if name in names:
            raise GategradError(f"{where(name)}: two layers have this name; give each its own")
        names.append(name)
    return names


def _sources(layers: Sequence[Layer], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """By default a layer takes the one before it."""
    return {
        name: layer.inputs or (before,)  # type: ignore[attr-defined]
        for name, layer, before in zip(names, layers, [INPUT, *names], strict=False)
    }


def _connect(layers: Sequence[Layer], shape: Shape, where) -> tuple[GraphNode, ...]:
    """Nodes in topological order, shapes inferred; layer names lead to activated outputs."""
    names = _names(layers, where)
    functions = [getattr(layer, "activation", "none") for layer in layers]
    activation = dict(zip(names, functions, strict=True))
    ends = {n: n if a == "none" else f"{n}_{a}" for n, a in activation.items()}
    ends[INPUT] = INPUT
    for name, end in ends.items():
        if end != name and end in names:
            raise GategradError(f"{where(end)}: {name!r} with its activation has this name already")
    waiting: dict[str, tuple[Layer, tuple[str, ...]]] = {}
    for layer, (name, inputs) in zip(layers, _sources(layers, names).items(), strict=True):
        for source in inputs:
            if source not in ends:
                raise GategradError(
                    f"{where(name)}: inputs: there is no layer {source!r}{suggest(source, ends)}"
                )
        arity = OPERATIONS[layer.TYPE].arity
        if len(inputs) != arity if arity else len(inputs) < 2:
            raise GategradError(
                f"{where(name)}: inputs: a {layer.TYPE} layer takes {arity or 'two or more'}, not "
                f"{len(inputs)}; write inputs = [...] with the names of layers, or {INPUT!r}"
            )
        waiting[name] = (layer, inputs)
    used = {source for _, inputs in waiting.values() for source in inputs}
    for name in names[:-1]:
        if name not in used:
            raise GategradError(
                f"{where(name)}: no layer takes its output, and it is not the last layer; name it "
                "in the inputs of another one, or remove it"
            )
    shapes, nodes = {INPUT: shape}, []

    def add(name: str, op: str, inputs: tuple[str, ...], layer: Layer) -> None:
        given = tuple(shapes[source] for source in inputs)
        if getattr(layer, "DIMENSIONS", 0) == 2 and len(given[0]) == 2 and inputs != (INPUT,):
            raise GategradError(
                f"{where(name)}: takes an image of height x width x channels, and what layer "
                f"{inputs[0]!r} gives is a signal, {'x'.join(map(str, given[0]))}; layers such as "
                "'conv1d' and 'max_pool1d' take signals; an image's [input] shape ends with its "
                "channels, as in [28, 28, 1]"
            )
        try:
            shapes[name] = OPERATIONS[op].shape(layer, given)
        except GategradError as error:
            raise GategradError(f"{where(name)}: {error}") from None
        nodes.append(GraphNode(name, op, inputs, layer, shapes[name], given))

    while waiting:
        ready = [n for n, (_, ins) in waiting.items() if all(ends[i] in shapes for i in ins)]
        if not ready:
            circle = _cycle({name: inputs for name, (_, inputs) in waiting.items()})
            raise GategradError(
                f"{where(circle[0])}: inputs: its inputs form a cycle, {' <- '.join(circle)}; let "
                "one of these take a layer before all of them"
            )
        for name in ready:
            layer, inputs = waiting.pop(name)
            add(name, layer.TYPE, tuple(ends[i] for i in inputs), layer)
            if ends[name] != name:
                function = Activation(
                    activation[name],
                    slope=layer.slope,  # type: ignore[attr-defined]
                    name=ends[name],
                    activation_bits=layer.activation_bits,  # type: ignore[attr-defined]
                )
                add(ends[name], "activation", (name,), function)
    last = ends[names[-1]]
    # The output comes last whatever the order of the description.
    return tuple(sorted(nodes, key=lambda n: n.name == last))


def _cycle(inputs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Names around a cycle, the first again at the end; every one waits for one of the others."""
    path = [next(iter(inputs))]
    while path.count(path[-1]) < 2:
        path.append(next(source for source in inputs[path[-1]] if source in inputs))
    return path[path.index(path[-1]) :]
