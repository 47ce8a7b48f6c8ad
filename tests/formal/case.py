"""A proof by name, and the mutations of its component that it must find."""

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from formal.bench import Bench

CASES: list["Case"] = []


@dataclass(frozen=True)
class Case:
    """``make(component)`` builds the bench around a component of class ``component``; each of
    ``mutations`` is a text of its module and what takes its place. ``bounded``: the bench looks at
    a number of cycles only."""

    name: str
    component: type
    make: Callable[[type], Bench]
    mutations: dict[str, str] = field(default_factory=dict)
    slow: bool = False
    bounded: bool = False


def case(
    name: str, component: type, mutations: dict[str, str] | None = None, *, slow: bool = False,
    bounded: bool = False,
):  # fmt: skip
    """Enters the function below it as a proof of ``component``."""

    def enter(make):
        CASES.append(Case(name, component, make, mutations or {}, slow, bounded))
        return make

    return enter


def mutant(component: type, old: str, new: str) -> type:
    """``component`` from its module with ``new`` in place of ``old``, which is there once."""
    module = sys.modules[component.__module__]
    source = Path(module.__file__).read_text()
    assert source.count(old) == 1, f"{source.count(old)} times in {module.__name__}: {old}"
    changed = types.ModuleType(module.__name__)
    changed.__file__ = module.__file__
    exec(compile(source.replace(old, new), module.__file__, "exec"), vars(changed))
    return getattr(changed, component.__name__)
