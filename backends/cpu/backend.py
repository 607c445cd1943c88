"""The `cpu` target: what it can execute and how long that takes."""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hwprune.backends.cpu import host
from hwprune.backends.cpu.child import ask
from hwprune.backends.cpu.cost import expected_ns
from hwprune.backends.cpu.layout import block_size

from hwprune.backend import Capabilities, Identity, Kernel, Samples, Timed, gather

_INT8 = frozenset({"int8"})
_QUANTISED = (
    "Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool",
    "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze",
)  # fmt: skip
_FLOAT_ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"}
_BLOCKED = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
_BLOCKED |= {"Add", "Mul", "Relu", "Sigmoid", "Tanh"}
_START_S = 60.0


class CpuBackend:
    """onnxruntime's CPUExecutionProvider in this machine's own processes."""

    name = "cpu"

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

    def conditions(self) -> Mapping[str, str]:
        """Nothing yet."""
        return {}

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
            blocked=frozenset(_BLOCKED) if block_size() > 1 else frozenset(),
            weight_bits=8 if host.has_vnni() else 7,
        )

    def time_kernels(
        self, kernels: Sequence[Kernel], threads: int, runs: int, seed: int
    ) -> Iterator[tuple[int, Timed]]:
        """Times every kernel inside the runtime, many interleaved in one session.

        Operators that cannot be built from their signature are priced by an elementwise kernel
        over the same output. Raises BackendError.
        """
        if not kernels:
            return
        request = {
            "task": "kernels",
            "kernels": [json.loads(k.key()) for k in kernels],
            "threads": threads,
            "runs": runs,
            "seed": seed,
        }
        work_s = 20e-9 * (runs + 10) * sum(expected_ns(k) for k in kernels)
        limit_s = _START_S + 2.0 * len(kernels) + work_s
        for index, runs_ns, share in ask(request, limit_s):
            yield index, Timed(tuple(runs_ns), share)

    def time_models(
        self, models: Sequence[Path], threads: int, seconds: float, processes: int
    ) -> list[Samples]:
        """Times whole files in turns with `seconds` in each process. Raises BackendError."""
        if not models:
            return []
        request = {
            "task": "models",
            "models": [str(m) for m in models],
            "threads": threads,
            "seconds": seconds,
        }
        limit_s = 2 * _START_S * len(models) + 10 * seconds
        seen: list[list[Timed]] = [[] for _ in models]
        for seed in range(processes):
            for index, runs_ns, share in ask(request | {"seed": seed}, limit_s):
                seen[index].append(Timed(tuple(runs_ns), share))
        return [gather(timed) for timed in seen]


def _version() -> str | None:
    for package in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None
