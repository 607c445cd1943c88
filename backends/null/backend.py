"""The null target: prices by rule, samples from a fake clock, the same on every machine."""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from hwprune.backends.null.model import kernels_of, model_ns
from hwprune.backends.null.rules import QUANTISED, kernel_ns

from hwprune.backend import RUN, Capabilities, Identity, Kernel, Samples, Timed

_INT8 = frozenset({"int8"})
_RUNS_PER_SECOND = 30


class FakeClock:
    """Nanoseconds that pass only when something is timed."""

    def __init__(self) -> None:
        self.now_ns = 0

    def advance(self, ns: int) -> None:
        """Lets time pass."""
        self.now_ns += ns


class NullBackend:
    """Deterministic prices; `noise` and `drift` make it behave like a real machine in tests.

    Args:
        noise: Relative deviation of single samples, at most; the seed is fixed.
        drift: Relative slow-down per second of fake time.
        clock: Shared with a test that wants to see the time used.
    """

    name = "null"
    keeps_pace = False  # rules have no neighbours
    runtime_options: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self, noise: float = 0.0, drift: float = 0.0, clock: FakeClock | None = None
    ) -> None:
        self.clock = clock or FakeClock()
        self._noise = noise
        self._drift = drift
        self._random = random.Random(0)

    def missing(self) -> str | None:
        """Nothing ever is."""
        return None

    def default_threads(self) -> int:
        """One."""
        return 1

    def identity(self) -> Identity:
        """The same everywhere."""
        return Identity("null", "rules", "null 1", {"clock": "fake"})

    def conditions(self) -> dict[str, str]:
        """Nothing moves a rule."""
        return {}

    def capabilities(self) -> Capabilities:
        """A plain machine: activations fold behind weights, residuals do not."""
        return Capabilities(
            precisions=dict.fromkeys(QUANTISED, _INT8),
            activations={
                "fp32": frozenset({"Relu", "Clip"}),
                "int8": frozenset({"Relu", "Clip"}),
            },
            residual_fused=frozenset(),
            passthrough=frozenset({"MaxPool", "Reshape", "Transpose", "Flatten"}),
        )

    def session_options(self, threads: int) -> Mapping[str, str]:
        """There is no session."""
        return {}

    def time_kernels(
        self, kernels: Sequence[Kernel], threads: int, runs: int, seed: int
    ) -> Iterator[tuple[int, Timed]]:
        """The rule's price of each kernel, `runs` times."""
        prices = [kernel_ns(k) / threads for k in kernels]
        for i, samples in enumerate(self._samples(prices, runs, 1)):
            yield i, Timed(samples.runs_ns[0], samples.cpu_share[0])

    def keep_pace(self, pace_ns: float) -> None:
        """Nothing to do."""

    def names(self, kernels: Sequence[Kernel]) -> list[tuple[str, ...]]:
        """Operator and precision."""
        return [(_named(k),) for k in kernels]

    def executed(self, model: Path) -> Sequence[str]:
        """Of every kernel by rule. Raises ModelError if the file cannot be read."""
        return [_named(k) for k in kernels_of(model) if k != RUN]

    def time_models(
        self,
        models: Sequence[Path],
        threads: int,
        seconds: float,
        processes: int,
        patience: float = 1.0,
    ) -> list[Samples]:
        """The price of all kernels of each file. Raises ModelError if one cannot be read."""
        prices = [model_ns(path) / threads for path in models]
        return self._samples(prices, max(30, int(seconds * _RUNS_PER_SECOND)), processes)

    def _samples(self, prices: Sequence[float], runs: int, processes: int) -> list[Samples]:
        """Takes turns, as real backends do, so that drift meets all alike."""
        found: list[list[tuple[int, ...]]] = [[] for _ in prices]
        for _ in range(processes):
            turns = [[self._run(p) for p in prices] for _ in range(runs)]
            for times, column in zip(found, zip(*turns, strict=True), strict=True):
                times.append(column)
        return [Samples(tuple(times), (1.0,) * processes) for times in found]

    def _run(self, price_ns: float) -> int:
        slower = 1 + self._drift * self.clock.now_ns * 1e-9
        spread = 1 + self._noise * self._random.uniform(-1, 1)
        ns = max(1, round(price_ns * slower * spread))
        self.clock.advance(ns)
        return ns


def _named(kernel: Kernel) -> str:
    return f"{kernel.op} {kernel.precision}"
