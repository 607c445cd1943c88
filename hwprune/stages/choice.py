"""Which rewrites a network runs with on a target, and where that is remembered."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwprune import __version__
from hwprune.errors import StoreError
from hwprune.graph.read import to_proto
from hwprune.report.jsonio import from_json, to_json
from hwprune.report.schema import AppliedRewrite
from hwprune.rewrites.table import REWRITES, rewritten
from hwprune.stages.subject import Subject
from hwprune.store.files import write_atomic
from hwprune.store.paths import choice_path
from hwprune.store.rundir import digest


@dataclass(frozen=True, slots=True)
class Choice:
    """The rewrites that are kept, in order, and what people should know about others."""

    applied: tuple[AppliedRewrite, ...] = ()
    notes: tuple[str, ...] = ()

    def carried_out(self, subject: Subject) -> Subject:
        """The network computed by the rewritten graph."""
        if not self.applied:
            return subject
        return subject.with_graph(rewritten(subject.original, [r.name for r in self.applied]))

    def document(self) -> dict[str, Any]:
        """As checkpoints keep it."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Choice":
        """Reads `document` back. Raises StoreError for anything else."""
        return from_json(cls, json.dumps(document))


def remembered(subject: Subject) -> Choice | None:
    """What was chosen before for this very network, on this very target; else None."""
    path = _path(subject)
    try:
        return None if path is None else from_json(Choice, path.read_text(encoding="utf-8"))
    except (OSError, StoreError):
        return None


def remember(subject: Subject, choice: Choice) -> None:
    """Lets `hwprune profile` and `hwprune compile` choose alike, though times are never equal."""
    if (path := _path(subject)) is not None:
        write_atomic(path, to_json(choice).encode())


def _path(subject: Subject) -> Path | None:
    network = bytes(to_proto(subject.original).SerializeToString())
    target = [asdict(subject.backend.identity()), subject.threads]
    return choice_path(digest(network, target, [r.name for r in REWRITES], __version__))
