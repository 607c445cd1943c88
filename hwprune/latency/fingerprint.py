"""What a stored latency belongs to: the same target in the same set-up, or it is not used."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hwprune.backend import Identity


def fingerprint(identity: Identity, threads: int) -> str:
    """SHA-256 of everything that must match."""
    return digest_of(describe(identity, threads))


def digest_of(description: str) -> str:
    """SHA-256 of a description."""
    return hashlib.sha256(description.encode()).hexdigest()


def describe(identity: Identity, threads: int) -> str:
    """Canonical JSON of the same, for people and for comparing field by field."""
    fields = asdict(identity) | {"details": dict(identity.details), "threads": threads}
    return canonical(fields)


def canonical(fields: Mapping[str, Any]) -> str:
    """JSON in the one way that gives equal texts for equal fields."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def differences(ours: str, theirs: str) -> list[str]:
    """Fields in which two descriptions differ: "runtime: onnxruntime 1.31.1, not 1.30.0"."""
    left, right = (_flat(json.loads(text)) for text in (ours, theirs))
    names = sorted(left.keys() | right.keys())
    return [f"{n}: {left.get(n)}, not {right.get(n)}" for n in names if left.get(n) != right.get(n)]


def _flat(fields: dict[str, object]) -> dict[str, object]:
    """Details among the other fields; one with a name that is taken keeps the word before it."""
    details = fields.pop("details")
    assert isinstance(details, dict)
    return fields | {k if k not in fields else f"details.{k}": v for k, v in details.items()}
