"""The `cpu` target: what it can execute and how long that takes."""

import base64
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
from hwprune.backends.cpu import host
from hwprune.backends.cpu.chains import Chain, chains_of, nothing
from hwprune.backends.cpu.child import ask
from hwprune.backends.cpu.layout import LEAST, block_size
from hwprune.backends.cpu.micro import MicroModel

from hwprune.backend import (
    RUN,
    Capabilities,
    Identity,
    Kernel,
    Layouts,
    Samples,
    Timed,
    gather,
)
from hwprune.errors import BackendError

_INT8 = frozenset({"int8"})
_QUANTISED = (
    "Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool",
    "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze",
)  # fmt: skip
_FLOAT_ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"}
_BLOCKED = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
_BLOCKED |= {"Add", "Mul", "Relu", "Sigmoid", "Tanh", "Concat", "BatchNormalization"}
_EITHER = {"Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"}
_START_S = 60.0


class CpuBackend:
    """onnxruntime's CPUExecutionProvider in this machine's own processes."""

    name = "cpu"

    def __init__(self) -> None:
        self._built: dict[Kernel, Chain] = {}

    def missing(self) -> str | None:
        """Why the target cannot be used here, or None."""
        return None if _version() else "onnxruntime is not installed: pip install onnxruntime"

    def default_threads(self) -> int:
        """One per physical core this process may use, as onnxruntime does."""
        return host.physical_cores()

    def identity(self) -> Identity:
        """CPU, runtime and how it is set up."""
        fields = host.cpu_fields()
        details = {
            "architecture": platform.machine(),
            "family": fields.get("cpu family", ""),
            "stepping": fields.get("stepping", ""),
            "isa": host.isa_digest(),
            "cores": str(host.physical_cores()),
            "provider": "CPUExecutionProvider",
            "graph_optimization": "all",
            "threads": "intra-op, unpinned, spinning",
        }
        device = fields.get("model name") or platform.machine()
        return Identity("cpu", device, f"onnxruntime {_version()}", details)

    def capabilities(self) -> Capabilities:
        """Each statement is checked against the optimised graph in tests/backends."""
        return Capabilities(
            precisions=dict.fromkeys(_QUANTISED, _INT8),
            activations={
                "fp32": frozenset(_FLOAT_ACTIVATIONS),
                # They vanish into the quantisation behind when its range ends at their bounds.
                "int8": frozenset({"Relu", "Clip"}),
            },
            residual_fused=frozenset({"fp32"}),
            passthrough=frozenset(
                {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}
            ),
            layouts=Layouts(
                block=block_size(),
                multiple=LEAST,
                blocked=frozenset(_BLOCKED) if block_size() > 1 else frozenset(),
                channels_last=frozenset({"Conv"}),
                either=frozenset(_EITHER),
            ),
            weight_bits=8 if host.has_vnni() else 7,
        )

    def time_kernels(
        self, kernels: Sequence[Kernel], threads: int, runs: int, seed: int
    ) -> Iterator[tuple[int, Timed]]:
        """Times every kernel inside the runtime, many interleaved in one session.

        Operators that cannot be built from their signature are priced by an elementwise kernel
        over the same output. Raises BackendError.
        """
        chains = self._chains([k for k in kernels if k != RUN])
        work_s = sum(20e-9 * (runs + 10) * chain.expected_ns for chain in chains)
        request = {
            "copies": [chain.copies for chain in chains],
            "weights": [chain.weights for chain in chains],
            "runs": runs,
            "seed": seed,
        }
        models = [nothing(), *(chain.model for chain in chains)]
        places = _places(kernels)
        for number, runs_ns, share in self._ask("chains", threads, models, work_s, **request):
            for index in places.get(number, ()):
                if not runs_ns:
                    raise BackendError(f"onnxruntime failed to run {kernels[index].key()}")
                yield index, Timed(tuple(runs_ns), share)

    def _chains(self, kernels: Sequence[Kernel]) -> list[Chain]:
        """One per kernel; what was built is remembered."""
        new = [k for k in dict.fromkeys(kernels) if k not in self._built]
        built = chains_of(new, self._optimised, self._shapes)
        self._built |= dict(zip(new, built, strict=True))
        return [self._built[k] for k in kernels]

    def _optimised(self, models: Sequence[MicroModel]) -> Iterator[onnx.ModelProto | None]:
        protos = [m.proto().SerializeToString() for m in models]
        weights = [m.weights for m in models]
        for _, text in self._ask("optimise", 1, protos, weights=weights):
            yield None if text is None else onnx.load_model_from_string(base64.b64decode(text))

    def _shapes(self, chains: Sequence[Chain]) -> Iterator[Mapping[str, Any] | None]:
        weights = [chain.weights for chain in chains]
        for _, found in self._ask("shapes", 1, [c.model for c in chains], weights=weights):
            yield found

    def _ask(
        self, task: str, threads: int, models: Sequence[bytes], work_s: float = 0.0, **more: Any
    ) -> Iterator[Any]:
        limit_s = _START_S + 2.0 * len(models) + work_s
        if not models:
            return iter(())
        return ask({"task": task, "threads": threads, **more}, limit_s, models)

    def time_models(
        self, models: Sequence[Path], threads: int, seconds: float, processes: int
    ) -> list[Samples]:
        """Times whole files in turns with `seconds` in each process. Raises BackendError."""
        if not models:
            return []
        files = [_read(path) for path in models]
        limit_s = 2 * _START_S * len(models) + 10 * seconds
        seen: list[list[Timed]] = [[] for _ in models]
        for seed in range(processes):
            more = {"seconds": seconds, "seed": seed}
            for index, runs_ns, share in self._ask("files", threads, files, limit_s, **more):
                seen[index].append(Timed(tuple(runs_ns), share))
        return [gather(timed) for timed in seen]


def _places(kernels: Sequence[Kernel]) -> dict[int, list[int]]:
    """Where the answers go: number 0 is the call itself, the chains follow in order."""
    chained = [i for i, k in enumerate(kernels) if k != RUN]
    calls = [i for i, k in enumerate(kernels) if k == RUN]
    return {0: calls} | {number: [i] for number, i in enumerate(chained, start=1)}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BackendError(f"{path} cannot be read: {error.strerror}") from error


def _version() -> str | None:
    for package in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None
