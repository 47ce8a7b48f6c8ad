"""Specifications (frozen dataclasses) to plain JSON and back, by the types of their fields."""

import dataclasses
import types
import typing
from enum import Enum
from typing import Any

from gategrad.golden.format import Format


def spec_to_json(spec: Any) -> Any:
    """Formats as ``"Q4.12"``, enumerations by value, dataclasses as tables."""
    if isinstance(spec, Format):
        return str(spec)
    if isinstance(spec, Enum):
        return spec.value
    if dataclasses.is_dataclass(spec):
        kept = [f for f in dataclasses.fields(spec) if not _left_out(f, getattr(spec, f.name))]
        return {f.name: spec_to_json(getattr(spec, f.name)) for f in kept}
    if isinstance(spec, tuple):
        return [spec_to_json(item) for item in spec]
    return spec


def _left_out(field: dataclasses.Field, value: Any) -> bool:
    return "leave_out" in field.metadata and value == field.default


def spec_from_json(kind: Any, value: Any, key: str = "spec") -> Any:
    """The reverse; raises ``ValueError`` that names the key."""
    if isinstance(kind, types.UnionType):
        if value is None and type(None) in typing.get_args(kind):
            return None
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{key} must be a list")
        return tuple(spec_from_json(typing.get_args(kind)[0], item, key) for item in value)
    if kind is Format:
        if not isinstance(value, str) or len(value) > 40:
            raise ValueError(f"{key} must be a format such as 'Q4.12'")
        try:
            return Format.parse(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            raise ValueError(f"{key}: {value!r} is not known") from None
    if dataclasses.is_dataclass(kind):
        return _table(kind, value, key)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{key} must be {kind.__name__}, not {value!r:.40}")
    return value


def _table(kind: Any, value: Any, key: str) -> Any:
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    # What has been added since a file was written has a default.
    needed = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    if not isinstance(value, dict) or not needed <= set(value) <= set(names):
        raise ValueError(f"{key} must have the keys {', '.join(names)} and no others")
    found = {n: spec_from_json(hints[n], value[n], f"{key}.{n}") for n in names if n in value}
    try:
        return kind(**found)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{key}: {error}") from None
