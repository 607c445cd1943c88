"""This installation: versions against their floors, targets and what they miss."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from hwprune.errors import HwpruneError
from hwprune.registry import backend_names, get_backend

# Read through others, so that our own requirements cannot name it: parsing depth and memory bugs
# (CVE-2025-4565, CVE-2026-0994) are mended from these versions on.
_PROTOBUF = ("~=5.29.6", ">=6.33.5")


@dataclass(frozen=True, slots=True)
class Need:
    """A package we need: what is installed (None: nothing) and what would do."""

    name: str
    found: str | None
    wanted: str
    fit: bool


@dataclass(frozen=True, slots=True)
class TargetState:
    """A target and what it runs on, or why it cannot be used."""

    name: str
    usable: bool
    what: str


def requirements() -> list[Need]:
    """Every requirement of hwprune, and those floors that are matters of safety."""
    return list(_needs())


def targets() -> list[TargetState]:
    """Every installed target."""
    return [target_state(name) for name in backend_names()]


def target_state(name: str) -> TargetState:
    """One target, which need not be among those that are listed."""
    try:
        identity = get_backend(name).identity()
    except (HwpruneError, ImportError, AttributeError) as e:
        return TargetState(name, False, str(e))
    return TargetState(name, True, f"{identity.device}, {identity.runtime}")


def _needs() -> Iterator[Need]:
    about = metadata.metadata("hwprune")
    yield _need("python", platform.python_version(), about["Requires-Python"])
    for text in metadata.requires("hwprune") or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _need(requirement.name, _installed(requirement.name), str(requirement.specifier))
    yield _need("protobuf", _installed("protobuf"), *_PROTOBUF)


def _need(name: str, found: str | None, *alternatives: str) -> Need:
    fit = found is not None and any(SpecifierSet(a).contains(found, True) for a in alternatives)
    return Need(name, found, " or ".join(a or "any" for a in alternatives), fit)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
