"""Frozen dataclasses to canonical JSON and back, driven by their annotations."""

import dataclasses
import json
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from hwprune.errors import StoreError

T = TypeVar("T")


def to_json(value: Any) -> str:
    """Canonical JSON of a dataclass: equal values give equal bytes, NaN is refused."""
    document = dataclasses.asdict(value)
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False, default=_plain) + "\n"


def _plain(scalar: Any) -> Any:
    """A numpy scalar as Python's own number."""
    return scalar.item()


def from_json(cls: type[T], text: str) -> T:
    """Reads `to_json` back; fields it does not know are ignored. Raises StoreError."""
    try:
        return cast("T", _read(cls, json.loads(text), cls.__name__.lower()))
    except (ValueError, RecursionError) as e:  # bad JSON, and what _read raises
        raise StoreError(f"not a {cls.__name__.lower()}: {e}", "run hwprune compile again") from e


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` as the annotation `kind` wants it; `where` is its path in the document."""
    if dataclasses.is_dataclass(kind):
        return _read_fields(cast("type", kind), value, where)
    origin, parameters = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = next(p for p in parameters if p is not type(None))
        return None if value is None else _read(inner, value, where)
    if origin is Literal:
        return _check(value in parameters, value, where)
    if origin is tuple:
        return _read_tuple(parameters, value, where)
    if origin is Mapping:
        _check(isinstance(value, dict), value, where)
        return {k: _read(parameters[1], v, f"{where}.{k}") for k, v in value.items()}
    if kind is float:
        return float(_check(isinstance(value, int | float), value, where))
    return _check(isinstance(value, kind), value, where)


def _read_fields(cls: type, value: Any, where: str) -> Any:
    _check(isinstance(value, dict), value, where)
    hints = get_type_hints(cls)
    known = [f for f in dataclasses.fields(cls) if f.name in value]
    try:
        return cls(
            **{f.name: _read(hints[f.name], value[f.name], f"{where}.{f.name}") for f in known}
        )
    except TypeError as e:
        raise ValueError(f"{where} is incomplete: {e}") from e


def _read_tuple(parameters: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _check(isinstance(value, list), value, where)
    if parameters[-1] is Ellipsis:
        parameters = parameters[:1] * len(value)
    _check(len(parameters) == len(value), value, where)
    pairs = zip(parameters, value, strict=True)
    return tuple(_read(p, v, f"{where}[{i}]") for i, (p, v) in enumerate(pairs))


def _check(good: bool, value: Any, where: str) -> Any:
    if not good:
        raise ValueError(f"{where} cannot be {value!r:.60}")
    return value
