"""Backends and methods by name: the only place that knows them. Nothing heavy is imported here."""

import difflib
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from hwprune.backend import Backend
from hwprune.errors import BackendError, UsageError

METHODS: Mapping[str, Mapping[str, str]] = {
    "search": {
        "bo": "the knapsack, steered by Bayesian optimisation of measured quality (default)",
        "knapsack": "the least estimated loss under the latency table, evaluated once",
        "random": "random multipliers for the knapsack",
        "uniform": "the same fraction of every group: the baseline to beat",
    },
    "criterion": {
        "obs": "error left after least-squares repair of the consumers (default)",
        "magnitude": "norm of the weights",
        "random": "a random order: the baseline to beat",
    },
    "effort": {
        "quick": "no training: least-squares repair and post-training quantisation (default)",
        "standard": "a few epochs of distillation",
        "thorough": "distillation until it no longer helps, then quantisation-aware training",
    },
}


def known_method(kind: str, name: str) -> str:
    """`name` if `kind` has a method of that name. Raises UsageError."""
    if name not in METHODS[kind]:
        raise unknown(kind, name, METHODS[kind])
    return name


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name nobody has: the nearest match and the whole list."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(names)}"
    return UsageError(f"there is no {kind} {name!r}", hint)


def backend_names() -> list[str]:
    """Names of all installed targets, ours and plug-ins'."""
    return sorted(_backend_entries())


def get_backend(name: str) -> Backend:
    """The target of that name, ready to use. Raises UsageError or BackendError."""
    entries = _backend_entries()
    if name not in entries:
        raise unknown("target", name, entries)
    backend: Backend = entries[name].load()()
    if reason := backend.missing():
        raise BackendError(f"target {name!r} cannot be used here: {reason}")
    return backend


def _backend_entries() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group="hwprune.backends"):
        if entry.name in found and found[entry.name].value != entry.value:
            raise BackendError(
                f"two packages offer the target {entry.name!r}: "
                f"{found[entry.name].value} and {entry.value}",
                "uninstall one of them",
            )
        found[entry.name] = entry
    return found
