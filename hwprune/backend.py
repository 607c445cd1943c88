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
    precision: str  # see `hwprune.precision`
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


RUN = Kernel("Run", "fp32", (), ())  # what one call of the runtime costs, whatever it runs
PACE = Kernel("Pace", "fp32", (), ())  # what a target times to tell how fast it is right now


@dataclass(frozen=True, slots=True)
class Layouts:
    """Memory layouts that a runtime computes in, beside channels first in one piece ("plain").

    A target without any keeps the defaults.
    """

    block: int = 1  # channels per block of what fp32 convolutions read and write
    multiple: int = 1  # of this many channels must be what a blocked convolution reads
    blocked: frozenset[str] = frozenset()  # fp32 ops that can stay in blocks
    channels_last: frozenset[str] = frozenset()  # int8 ops that read and write channels last
    either: frozenset[str] = frozenset()  # int8 ops that take whichever layout comes
    carried: frozenset[str] = frozenset()  # fp32 ops that do so between int8 ones

    def convolves_in_blocks(self, channels: int, outputs: int, groups: int) -> bool:
        """Whether an fp32 convolution of an image with these channels runs in blocks."""
        if self.block == 1 or "Conv" not in self.blocked:
            return False
        if groups == 1:
            return channels < self.block or channels % self.multiple == 0
        if channels == outputs == groups:
            return outputs % self.multiple == 0
        return all(n // groups % self.block == 0 for n in (channels, outputs))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the target's kernels can do, stated by the backend and never assumed elsewhere."""

    precisions: Mapping[str, frozenset[str]]  # op -> those beyond fp32 (see `hwprune.precision`)
    activations: Mapping[str, frozenset[str]]  # precision -> ops fused behind Conv/Gemm
    residual_fused: frozenset[str]  # precisions in which Conv + Add (+ Relu) is one kernel
    passthrough: frozenset[str]  # int8 ops that keep scale and zero point (MaxPool, Reshape...)
    layouts: Layouts = Layouts()
    weight_bits: int = 8  # 7 where the CPU saturates u8 x s8 products
    per_channel: bool = True
    bias_fused: frozenset[str] = frozenset()  # precisions in which MatMul + Add of a vector is one
    moved: frozenset[str] = frozenset()  # ops that quantisations are moved through, from either end


@dataclass(frozen=True, slots=True)
class Identity:
    """What must match before a stored latency may be used for a decision."""

    backend: str
    device: str
    runtime: str  # "onnxruntime 1.31.1"
    details: Mapping[str, str]  # ISA digest, provider options, thread placement...


@dataclass(frozen=True, slots=True)
class Samples:
    """Raw times of one thing: nanoseconds, and which share of its cores it had, per process.

    `undisturbed_ns` are those of the runs that nobody disturbed, where the target can tell.
    """

    runs_ns: tuple[tuple[int, ...], ...]
    cpu_share: tuple[float, ...]
    undisturbed_ns: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Timed:
    """What one process saw of one thing: nanoseconds per run, and the share of its cores it had."""

    runs_ns: tuple[int, ...]
    cpu_share: float
    undisturbed_ns: tuple[int, ...] = ()


def gather(timed: Iterable[Timed]) -> Samples:
    """What several processes saw of one thing."""
    seen = tuple(timed)
    runs, shares = tuple(t.runs_ns for t in seen), tuple(t.cpu_share for t in seen)
    undisturbed = tuple(t.undisturbed_ns for t in seen)
    return Samples(runs, shares, undisturbed if any(undisturbed) else ())


class Backend(Protocol):
    """One target. Returns raw nanoseconds; statistics live in `hwprune.latency`.

    Its class is called with what the user gave and nothing else: `host` (a `hwprune.target.Host`)
    to be used on another machine, `options` (a mapping of texts) to set its runtime up. A target
    that has no such thing has no such parameter. What is said of "this machine" is then the other.
    """

    name: str
    keeps_pace: bool  # whether neighbours may slow it down: see `keep_pace`
    runtime_options: Mapping[str, str]  # as set, those left out included; fit for `options`

    def missing(self) -> str | None:
        """Why the target cannot be used here (what to install), or None."""

    def default_threads(self) -> int:
        """Threads the runtime itself would use."""

    def identity(self) -> Identity:
        """Of this machine."""

    def conditions(self) -> Mapping[str, str]:
        """What explains times and need not match (clock, load, quota...), as it is right now."""

    def capabilities(self) -> Capabilities:
        """Of the runtime on this machine."""

    def session_options(self, threads: int) -> Mapping[str, str]:
        """What a deployment sets for these times to hold, in the runtime's own names."""

    def time_kernels(
        self, kernels: Sequence[Kernel], threads: int, runs: int, seed: int
    ) -> Iterator[tuple[int, Timed]]:
        """Times every kernel once in one fresh process, interleaved, in an order drawn by `seed`.

        Yields (index into `kernels`, what was seen) as soon as it is known, so that whoever stores
        it loses nothing when measuring is interrupted. Raises BackendError.
        """

    def keep_pace(self, pace_ns: float) -> None:
        """From now on kernels are timed while `PACE` takes `pace_ns`, as far as it is up to us.

        Neighbours slow a shared machine down by up to nine tenths and let it go within
        milliseconds or minutes; rows of one table are only comparable at one pace. Called only
        where `keeps_pace`.
        """

    def names(self, kernels: Sequence[Kernel]) -> list[tuple[str, ...]]:
        """What the runtime calls the nodes that each kernel is, in its own optimised graph."""

    def executed(self, model: Path) -> Sequence[str]:
        """The same of every node that the runtime runs for a model file. Raises BackendError."""

    def time_models(
        self,
        models: Sequence[Path],
        threads: int,
        seconds: float,
        processes: int,
        patience: float = 1.0,
    ) -> list[Samples]:
        """Times whole model files in turns (A B A B ...), one sample a run. Raises BackendError.

        A target that keeps pace goes on for up to `patience` times the seconds until each file has
        been run undisturbed, too.
        """
