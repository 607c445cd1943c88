"""What `hwprune inspect` and `hwprune verify` answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hwprune.report import jsonio
from hwprune.report.schema import EXIT_CODES, Bounds, Latency, Verdict


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group of coupled channels.

    `width` is what `hwprune.prune` takes: how many can go one by one. Each of them is `step`
    channels of the layers that make them (a head of attention, one channel of every block of a
    grouped convolution). `macs_share` and `params_share` are the fractions of the network's MACs
    and parameters in the layers it runs through, `frozen` why it must keep its width (None: it
    may shrink).
    """

    name: str
    width: int
    step: int
    macs_share: float
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    frozen: str | None = None
    params_share: float = 0.0


@dataclass(frozen=True, slots=True)
class BranchInfo:
    """A residual branch that may go as a whole."""

    name: str
    nodes: tuple[str, ...]
    macs_share: float


@dataclass(frozen=True, slots=True)
class Inspection:
    """What could be pruned in a network, before anything is measured."""

    name: str
    source: str
    inputs: Mapping[str, tuple[int, ...]]
    macs: int
    params: int
    groups: tuple[GroupInfo, ...]
    branches: tuple[BranchInfo, ...] = ()
    nodes: int = 0

    def to_json(self) -> str:
        """Canonical JSON."""
        return jsonio.to_json(self)


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """A finished artefact, measured again: its verdict, its times and its numerical parity.

    `max_abs` is the largest difference between the file and its torch twin, `sqnr_db` the
    signal-to-noise ratio of each output.
    """

    verdict: Verdict
    budget: Bounds
    latency_ms: Latency
    max_abs: float
    sqnr_db: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The process' exit status for this verdict."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> str:
        """Canonical JSON."""
        return jsonio.to_json(self)
