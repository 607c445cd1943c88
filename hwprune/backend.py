"""What a target must offer. A plug-in author needs this file and `hwprune.testing` alone."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One unit of work as the runtime executes it: the signature the latency table is keyed by.

    `op` is the ONNX operator at its head ("Conv", "Gemm", "Add", "QuantizeLinear", ...);
    `inputs` the shapes of its inputs, weights and bias included, in the operator's order; a shape
    of a second operand that is fused behind it (the residual of Conv+Add) comes last.
    `fused` names the operators folded behind it, in order ("Add", "Relu").
    """

    op: str
    precision: str  # "fp32" | "int8"
    inputs: tuple[Shape, ...]
    output: Shape
    attributes: tuple[tuple[str, str], ...] = ()  # name -> canonical JSON of the value, sorted
    fused: tuple[str, ...] = ()

    def key(self) -> str:
        """Canonical JSON; equal kernels give equal keys."""
        return json.dumps(
            [self.op, self.precision, self.inputs, self.output, self.attributes, self.fused],
            separators=(",", ":"),
        )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the target's kernels can do, stated by the backend and never assumed elsewhere."""

    precisions: Mapping[str, frozenset[str]]  # op -> precisions beyond fp32, e.g. {"int8"}
    activations: Mapping[str, frozenset[str]]  # precision -> ops fused behind Conv/Gemm
    residual_fused: frozenset[str]  # precisions in which Conv + Add (+ Relu) is one kernel
    passthrough: frozenset[str]  # int8 ops that keep scale and zero point (MaxPool, Reshape...)
    blocked: frozenset[str] = frozenset()  # fp32 ops that stay in the runtime's blocked layout
    weight_bits: int = 8  # 7 where the CPU saturates u8 x s8 products
    per_channel: bool = True


@dataclass(frozen=True, slots=True)
class Identity:
    """What must match before a stored latency may be used for a decision."""

    backend: str
    device: str
    runtime: str  # "onnxruntime 1.31.1"
    details: Mapping[str, str]  # ISA digest, provider options, thread placement...


@dataclass(frozen=True, slots=True)
class Samples:
    """Raw times of one thing: nanoseconds per process, and CPU time over wall time per process."""

    runs_ns: tuple[tuple[int, ...], ...]
    cpu_share: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Timed:
    """What one process saw of one thing: nanoseconds per run, and CPU time over wall time."""

    runs_ns: tuple[int, ...]
    cpu_share: float


def gather(timed: Iterable[Timed]) -> Samples:
    """What several processes saw of one thing."""
    seen = tuple(timed)
    return Samples(tuple(t.runs_ns for t in seen), tuple(t.cpu_share for t in seen))


class Backend(Protocol):
    """One target. Returns raw nanoseconds; statistics live in `hwprune.latency`."""

    name: str

    def missing(self) -> str | None:
        """Why the target cannot be used here (what to install), or None."""

    def default_threads(self) -> int:
        """Threads the runtime itself would use."""

    def identity(self) -> Identity:
        """Of this machine."""

    def conditions(self) -> Mapping[str, str]:
        """What may change from day to day and moves times: governor, load, kernel, hypervisor...

        Noted beside what is measured; unlike the identity it need not match.
        """

    def capabilities(self) -> Capabilities:
        """Of the runtime on this machine."""

    def time_kernels(
        self, kernels: Sequence[Kernel], threads: int, runs: int, seed: int
    ) -> Iterator[tuple[int, Timed]]:
        """Times every kernel once in one fresh process, interleaved, in an order drawn by `seed`.

        Yields (index into `kernels`, what was seen) as soon as it is known, so that whoever stores
        it loses nothing when measuring is interrupted. Raises BackendError.
        """

    def time_models(
        self, models: Sequence[Path], threads: int, seconds: float, processes: int
    ) -> list[Samples]:
        """Times whole model files in turns (A B A B ...), one sample a run. Raises BackendError."""
