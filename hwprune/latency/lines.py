"""A table as lines of JSON, written canonically and read with suspicion.

    {"format":"hwprune latency table","version":1}
    {"sessions":{"3":{"governor":"performance"}},"target":{"backend":"cpu",...,"threads":1}}
    {"cpu_share":[...],"created":...,"kernel":[...],"runs_ns":[[...]],"session":"3","sha256":"..."}

Rows belong to the target above them. No figure is read but raw samples; the sum is over these,
the kernel, and the description of the target.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwprune.backend import Kernel, Samples
from hwprune.latency.fingerprint import canonical
from hwprune.store.database import checksum

HEAD = {"format": "hwprune latency table", "version": 1}
_TARGET = {"backend": str, "device": str, "runtime": str, "details": dict, "threads": int}
_ROW = {"kernel", "runs_ns", "cpu_share", "created", "session", "sha256"}
_MOST_NS = 10**15  # eleven days
_MOST = 2**31  # of anything else that is counted


class InvalidError(ValueError):
    """The line is none of a table; the message says why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from: the description of a target, and conditions by session."""

    identity: str
    sessions: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A row under way."""

    key: str  # see `Kernel.key`
    samples: Samples
    created: float
    session: str


def parse(line: bytes) -> dict[str, Any]:
    """The object on a line. Raises InvalidError."""
    try:
        found = json.loads(line, parse_constant=_refuse, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"no JSON: {error}") from error
    _require(isinstance(found, dict), "no JSON object")
    assert isinstance(found, dict)
    return found


def origin_line(origin: Origin) -> str:
    """The line above the rows of a target."""
    return canonical({"target": json.loads(origin.identity), "sessions": origin.sessions})


def read_origin(fields: Mapping[str, Any]) -> Origin:
    """Reads what `origin_line` wrote. Raises InvalidError."""
    _require(fields.keys() == {"target", "sessions"}, "unknown fields")
    target, sessions = fields["target"], fields["sessions"]
    _require(isinstance(target, dict) and target.keys() == _TARGET.keys(), "no target")
    for name, kind in _TARGET.items():
        _require(type(target[name]) is kind, f"{name} of the target is no {kind.__name__}")
    _require(_is_text_mapping(target["details"]), "details of the target are no texts")
    _require(1 <= target["threads"] < _MOST, "threads out of range")
    _require(isinstance(sessions, dict), "no sessions")
    _require(all(map(_is_text_mapping, sessions.values())), "conditions are no texts")
    return Origin(canonical(target), sessions)


def row_line(origin: Origin, row: Measured) -> str:
    """A row; its sum ties it to its target."""
    runs, shares = row.samples.runs_ns, row.samples.cpu_share
    return canonical(
        {
            "kernel": json.loads(row.key),
            "runs_ns": runs,
            "cpu_share": shares,
            "created": row.created,
            "session": row.session,
            "sha256": _sum(origin, row),
        }
    )


def read_row(origin: Origin, fields: Mapping[str, Any]) -> Measured:
    """Reads what `row_line` wrote. Raises InvalidError."""
    _require(fields.keys() == _ROW, "unknown fields")
    runs, shares, created = fields["runs_ns"], fields["cpu_share"], fields["created"]
    _require(isinstance(runs, list) and len(runs) > 0, "no samples")
    _require(all(_is_list(r, _is_duration) and len(r) > 0 for r in runs), "no times in ns")
    _require(_is_list(shares, _is_figure) and len(shares) == len(runs), "no shares")
    _require(_is_figure(created), "no time of creation")
    _require(isinstance(fields["session"], str), "no session")
    samples = Samples(tuple(map(tuple, runs)), tuple(map(float, shares)))
    row = Measured(_key(fields["kernel"]), samples, float(created), fields["session"])
    _require(fields["sha256"] == _sum(origin, row), "the checksum does not fit")
    return row


def _sum(origin: Origin, row: Measured) -> str:
    samples = row.samples
    return checksum(origin.identity, row.key, samples.runs_ns, samples.cpu_share, row.created)


def _key(fields: Any) -> str:
    _require(isinstance(fields, list) and len(fields) == 6, "no kernel")
    op, precision, inputs, output, attributes, fused = fields
    _require(_is_list([op, precision], _is_text) and _is_list(fused, _is_text), "no operator")
    _require(isinstance(inputs, list) and all(map(_is_shape, [*inputs, output])), "no shapes")
    _require(isinstance(attributes, list), "no attributes")
    _require(all(_is_list(a, _is_text) and len(a) == 2 for a in attributes), "no attributes")
    shapes = tuple(map(tuple, inputs))
    pairs = tuple((name, value) for name, value in attributes)
    return Kernel(op, precision, shapes, tuple(output), pairs, tuple(fused)).key()


def _is_shape(found: Any) -> bool:
    return _is_list(found, lambda size: type(size) is int and 0 <= size < _MOST)


def _is_list(found: Any, fits: Any) -> bool:
    return isinstance(found, list) and all(map(fits, found))


def _is_text(found: Any) -> bool:
    return isinstance(found, str)


def _is_text_mapping(found: Any) -> bool:
    return isinstance(found, dict) and all(map(_is_text, found.values()))


def _is_duration(found: Any) -> bool:
    return type(found) is int and 0 < found <= _MOST_NS


def _is_figure(found: Any) -> bool:
    return type(found) in (int, float) and math.isfinite(found) and 0 <= found < _MOST * 1e3


def _require(good: bool, why: str) -> None:
    if not good:
        raise InvalidError(why)


def _refuse(constant: str) -> None:
    raise InvalidError(f"{constant} is no number")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    _require(len(found) == len(pairs), "a field is there twice")
    return found
