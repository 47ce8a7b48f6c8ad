"""Validated settings: dataclasses whose fields are the keys of a network file.

One declaration gives the Python constructor, the TOML keys, their types, ranges and messages.
"""

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Self

from gategrad.errors import GategradError
from gategrad.golden.format import Format


def key(default: Any = MISSING, *, low=None, high=None, choices: Iterable[str] = ()) -> Any:
    """A field of a :class:`Settings`: optional if it has a ``default``; the range is inclusive."""
    # `Any`, as dataclasses.field has it: the annotation beside it says the type.
    return field(default=default, metadata={"low": low, "high": high, "choices": tuple(choices)})


def suggest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'units'?``, or the known words if none is close."""
    known = list(known)
    close = difflib.get_close_matches(str(word), known, 1, 0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


@dataclass(frozen=True)
class Settings:
    """Base class: checks every field when it is made.

    Raises :class:`GategradError` that names the key, and the file and layer where they are known.
    """

    WHERE: ClassVar[str] = "settings"

    def __post_init__(self) -> None:
        for name, value in _checked(type(self), vars(self), self.WHERE).items():
            object.__setattr__(self, name, value)
        if problem := self.problem(vars(self)):
            raise GategradError(f"{self.WHERE}: {problem}")

    @classmethod
    def problem(cls, values: Mapping[str, Any]) -> str:
        """What is wrong with these values together, or nothing; subclasses say."""
        return ""

    @classmethod
    def from_table(cls, table: Any, where: str) -> Self:
        """Make from a TOML or JSON table; ``where`` starts every message."""
        if not isinstance(table, Mapping):
            raise GategradError(f"{where}: must be a table of keys, not {_kind(table)}")
        names = [f.name for f in fields(cls)]
        for name in table:
            if name not in names:
                raise GategradError(f"{where}: unknown key {name!r}{suggest(name, names)}")
        for f in fields(cls):
            if f.default is MISSING and f.name not in table:
                raise GategradError(f"{where}: key {f.name!r} is missing")
        values = _checked(cls, table, where)
        if problem := cls.problem(values):
            raise GategradError(f"{where}: {problem}")
        return cls(**values)

    def table(self) -> dict[str, Any]:
        """The keys that differ from their defaults, as plain JSON values."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        defaults = {f.name: f.default for f in fields(self)}
        return {n: _plain(v) for n, v in found.items() if v is not None and v != defaults[n]}


def _checked(cls, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {
        f.name: _check(f, values[f.name], f"{where}: {f.name}")
        for f in fields(cls)
        if f.name in values
    }


def _check(f, value: Any, where: str) -> Any:
    kind, optional = _unwrap(f.type)
    if value is None and optional:
        return None
    value = _convert(kind, value, where)
    low, high, choices = (f.metadata.get(k) for k in ("low", "high", "choices"))
    if choices and value not in choices:
        raise GategradError(f"{where} = {value!r} is not known{suggest(value, choices)}")
    for item in value if isinstance(value, tuple) else (value,):
        if low is not None and not low <= item <= (math.inf if high is None else high):
            span = f"at least {low}" if high is None else f"{low} to {high}"
            raise GategradError(f"{where} must be {span}, not {item!r}")
    return value


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    if isinstance(annotation, types.UnionType):
        kinds = [a for a in typing.get_args(annotation) if a is not type(None)]
        return kinds[0], True
    return annotation, False


def _convert(kind: Any, value: Any, where: str) -> Any:
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_convert(item, v, where) for v in items)
    # Whatever has a spelling of its own.
    if hasattr(kind, "parse") and (kind is not Format or isinstance(value, str)):
        try:
            return kind.parse(value)
        except ValueError as error:
            raise GategradError(f"{where}: {error}") from None
    if kind is int and hasattr(value, "__index__") and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise GategradError(f"{where} must be finite, not {value!r}")
        return float(value)
    if kind not in (int, float) and isinstance(value, kind):
        return value
    raise GategradError(f"{where} must be {_NAMES.get(kind, kind.__name__)}, not {_kind(value)}")


_NAMES = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false",
    Format: "a format such as 'UQ0.8'",
}


def _kind(value: Any) -> str:
    return f"{value!r}" if len(repr(value)) <= 40 else f"a {type(value).__name__}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "plain"):
        return value.plain
    return str(value) if isinstance(value, Format) else value
