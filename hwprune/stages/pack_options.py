"""What `hwprune pack` is asked to do."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from hwprune.errors import UsageError
from hwprune.graph.safety import MAX_BYTES
from hwprune.registry import known_method
from hwprune.stages.options import DataOptions

EXACT, LOSSY, LEVELS = "exact", "deadzone", "levels"  # without a bound, with one, in ONNX


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class PackOptions:
    """Options of `hwprune pack`; see `hwprune pack --help` for each.

    `plain`: the file is an ONNX file itself, for which no decoder is needed.
    """

    codec: str | None = None
    max_size: int | None = None
    max_drop: float | None = None
    rate: float | None = None
    data: DataOptions = field(default_factory=DataOptions)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    plain: bool = False
    max_model_size: int = MAX_BYTES
    threads: int = field(default_factory=cores)

    @property
    def seed(self) -> int:
        """Of whatever is sampled."""
        return self.data.seed

    @property
    def chosen(self) -> str:
        """The codec."""
        bounds = (self.max_size, self.max_drop, self.rate)
        lossy = LEVELS if self.plain else LOSSY
        return self.codec or (EXACT if all(b is None for b in bounds) else lossy)

    def check(self) -> None:
        """Raises UsageError for what cannot be asked for."""
        known_method("codec", self.chosen)
        if self.chosen != EXACT and self.plain != (self.chosen == LEVELS):
            raise UsageError(
                f"codec {self.chosen} cannot write this kind of file",
                f"an .onnx file is written by {LEVELS} or {EXACT}, a .hwp file by all but {LEVELS}",
            )
        bounds = {"--max-size": self.max_size, "--max-drop": self.max_drop, "--rate": self.rate}
        given = [name for name, bound in bounds.items() if bound is not None]
        if self.chosen == EXACT and given:
            raise UsageError(
                f"codec {EXACT} loses nothing, so {given[0]} has nothing to choose",
                f"leave --codec out, or name one that loses something, as {LOSSY}",
            )
        if self.max_drop is not None and not self.data.given:
            raise UsageError(
                "--max-drop bounds what is lost on data, and there are none",
                "add --data, or give --rate or --max-size instead",
            )
        if self.rate is not None and self.max_size is not None:
            raise UsageError("--rate and --max-size both say how large the file is", "give one")
