"""Everything that can be found out about one target that can be used."""

from collections.abc import Mapping
from dataclasses import dataclass

from hwprune.backend import Identity
from hwprune.doctor.noise import Noise, measure_noise
from hwprune.errors import StoreError
from hwprune.latency.table import LatencyTable
from hwprune.registry import get_backend
from hwprune.store.paths import cache_folder, table_path


@dataclass(frozen=True, slots=True)
class TableState:
    """The latency table: its file, the rows of this very target, and what is wrong with it."""

    path: str
    rows: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Checkup:
    """One target; `noise` is None if it was not measured."""

    target: str
    threads: int
    identity: Identity
    conditions: Mapping[str, str]
    weight_bits: int
    table: TableState
    noise: Noise | None = None


def examine(target: str, noise: bool) -> Checkup:
    """Asks the target about itself; `noise` measures for some three seconds.

    Raises:
        UsageError: There is no such target.
        BackendError: It cannot be used here, or failed.
    """
    backend = get_backend(target)
    threads = backend.default_threads()
    identity, conditions = backend.identity(), backend.conditions()
    return Checkup(
        target=target,
        threads=threads,
        identity=identity,
        conditions=conditions,  # as they were before we made any load
        weight_bits=backend.capabilities().weight_bits,
        table=_table(identity, threads),
        noise=measure_noise(backend, threads) if noise else None,
    )


def _table(identity: Identity, threads: int) -> TableState:
    """Without making a file where there is none."""
    try:
        cache_folder()
        path = table_path()
        if path is None or not path.exists():
            return TableState(str(path or ""), 0)
        with LatencyTable(path, identity, threads) as table:
            return TableState(str(path), len(table))
    except StoreError as error:
        return TableState("", 0, error.message)
