"""What a latency table holds, target by target."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwprune.latency.ledger import Ledger
from hwprune.latency.records import Target


@dataclass(frozen=True, slots=True)
class Inventory:
    """The rows of one target."""

    identity: Mapping[str, Any]  # see `hwprune.backend.Identity`, with the runtime's threads
    rows: Mapping[str, int]  # "Conv int8" -> rows
    unsteady: int  # of these
    stale: int  # besides these
    damaged: int  # besides these
    oldest: float | None  # seconds since 1970
    newest: float | None
    conditions: Mapping[str, str]  # of the last session


def inventory(ledger: Ledger, backend: str | None = None) -> list[Inventory]:
    """Every target of the file, or of one backend."""
    found = [_of(ledger, t) for t in ledger.targets()]
    return [i for i in found if backend in (None, i.identity["backend"])]


def _of(ledger: Ledger, target: Target) -> Inventory:
    before = ledger.damaged
    kinds: Counter[str] = Counter()
    unsteady, created = 0, list[float]()
    for key, row in ledger.rows(target):
        kinds[" ".join(json.loads(key)[:2])] += 1
        unsteady += not row.steady
        created.append(row.created)
    sessions = ledger.conditions(target)
    return Inventory(
        identity=json.loads(target.identity),
        rows=dict(sorted(kinds.items())),
        unsteady=unsteady,
        stale=ledger.count(target, stale=True),
        damaged=ledger.damaged - before,
        oldest=min(created, default=None),
        newest=max(created, default=None),
        conditions=sessions[max(sessions)] if sessions else {},
    )
