"""The latency table: one row per kernel and target, kept from run to run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from hwprune.backend import Identity, Kernel, Samples, Timed
from hwprune.latency.fingerprint import describe, differences
from hwprune.latency.ledger import Ledger
from hwprune.latency.records import Row, Target


class LatencyTable:
    """Rows of one target in the file `path` (None: memory), which holds other targets too.

    A row holds what every process saw that timed its kernel; see `Ledger` for how it is kept.

    Args:
        path: The file, made if absent.
        identity: Of the machine that will be measured.
        threads: Of the runtime.
        foreign: Kernels without a row get the price of the most similar other target of the same
            backend. Good enough to steer a search, never for a verdict.

    Raises:
        StoreError: The file belongs to another program or a newer hwprune, or cannot be opened.
    """

    def __init__(
        self, path: Path | None, identity: Identity, threads: int, foreign: bool = False
    ) -> None:
        self.path = path
        self.threads = threads
        self.checked = False  # whether rows of earlier runs were compared with the machine
        self._ledger = Ledger(path)
        self._identity = describe(identity, threads)
        self._target = self._ledger.register(self._identity)
        self._session: int | None = None
        nearest = self._nearest()
        self._foreign = nearest if foreign else None
        self._notes = [*self._ledger.notes, *self._about(nearest)]

    def close(self) -> None:
        """Closes the file."""
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._ledger.count(self._target)

    @property
    def moved_aside(self) -> Path | None:
        """Where the file went that stood here before, if it could not be used."""
        return self._ledger.moved_aside

    @property
    def damaged(self) -> int:
        """Entries met so far whose checksum does not fit; they count as not measured."""
        return self._ledger.damaged

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the rows, whole sentences."""
        lost = f"{self.damaged} damaged entries of {self.path} were not used"
        return (*self._notes, *([lost] if self.damaged else []))

    def note(self, text: str) -> None:
        """Adds to `notes`."""
        self._notes.append(text)

    def get(self, kernel: Kernel) -> float | None:
        """Nanoseconds, or None if the kernel was not measured."""
        return self.get_many([kernel]).get(kernel)

    def get_many(self, kernels: Iterable[Kernel]) -> dict[Kernel, float]:
        """Nanoseconds of those that are known, here or (if allowed) on the foreign target."""
        wanted = list(kernels)
        own = self.rows(wanted)
        other = self.foreign_rows([k for k in wanted if k not in own])
        return {k: row.ns for k, row in (own | other).items()}

    def row(self, kernel: Kernel) -> Row | None:
        """Everything stored about a kernel on this target."""
        return self.rows([kernel]).get(kernel)

    def rows(self, kernels: Iterable[Kernel]) -> dict[Kernel, Row]:
        """Rows of this target, whether seen by enough processes or not."""
        return self._rows(self._target, kernels)

    def foreign_rows(self, kernels: Iterable[Kernel]) -> dict[Kernel, Row]:
        """Rows of the foreign target; none where it was not allowed."""
        return self._rows(self._foreign, kernels) if self._foreign else {}

    def conditions(self, row: Row) -> Mapping[str, str]:
        """What was noted when it was measured last."""
        return self._ledger.conditions(self._target).get(row.session, {})

    def renew(self) -> None:
        """Sees which rows other processes have made stale since. Raises StoreError."""
        self._target = self._ledger.register(self._identity)

    def begin(self, conditions: Mapping[str, str]) -> None:
        """What is stored from now on was measured under these conditions. Raises StoreError."""
        self.renew()
        self._session = self._ledger.begin(self._target, conditions)

    def outdate(self) -> None:
        """All rows of this target from before this session are stale. Raises StoreError."""
        self._target = self._ledger.outdate(self._target, self._current())

    def add(self, seen: Sequence[tuple[Kernel, Timed]]) -> None:
        """Stores what one more process saw of some kernels, all or none. Raises StoreError."""
        session = self._current()
        new = {kernel.key(): timed for kernel, timed in seen}

        def extended(key: str, row: Row | None) -> Row:
            before = row.samples if row else Samples((), ())
            runs = (*before.runs_ns, new[key].runs_ns)
            shares = (*before.cpu_share, new[key].cpu_share)
            return Row.of(Samples(runs, shares), session)

        self._ledger.update(self._target, list(new), extended)

    def put(self, kernel: Kernel, samples: Samples) -> None:
        """Stores one measurement, replacing an older one. Raises StoreError."""
        self.put_many({kernel: samples})

    def put_many(self, measured: Mapping[Kernel, Samples]) -> None:
        """Stores measurements, all or none. Raises StoreError."""
        session = self._current()
        rows = {k.key(): Row.of(s, session) for k, s in measured.items()}
        self._ledger.update(self._target, list(rows), lambda key, _row: rows[key])

    def _current(self) -> int:
        if self._session is None:
            self.begin({})
        assert self._session is not None
        return self._session

    def _rows(self, target: Target, kernels: Iterable[Kernel]) -> dict[Kernel, Row]:
        by_key = {k.key(): k for k in kernels}
        return {by_key[key]: row for key, row in self._ledger.read(target, list(by_key)).items()}

    def _nearest(self) -> Target | None:
        """The other target of this backend that differs in the fewest fields and has rows."""
        backend = json.loads(self._identity)["backend"]
        others = [
            t
            for t in self._ledger.targets()
            if t.digest != self._target.digest and json.loads(t.identity)["backend"] == backend
        ]
        measured = [t for t in others if self._ledger.count(t)]
        return min(measured, key=lambda t: len(self._differing(t)), default=None)

    def _differing(self, target: Target) -> list[str]:
        return differences(self._identity, target.identity)

    def _about(self, nearest: Target | None) -> list[str]:
        """That rows of another machine are there, and what becomes of them."""
        if nearest is None or (len(self) and not self._foreign):
            return []
        where = f"{self._ledger.count(nearest)} rows were measured on another target"
        differing = "; ".join(self._differing(nearest))
        if self._foreign:
            return [f"{where} and steer the search where this one has none ({differing})"]
        return [
            f"{where} and are not used ({differing}); --allow-foreign-table would search by them"
        ]
