"""The `cpu` target: onnxruntime's CPU provider, on this machine or on another."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hwprune.backends.cpu import describe
from hwprune.backends.cpu.capabilities import capabilities
from hwprune.backends.cpu.child import ask, sources
from hwprune.backends.cpu.cost import expected_ns
from hwprune.backends.cpu.layout import block_size, reordering
from hwprune.backends.cpu.options import RuntimeOptions

from hwprune.backend import Capabilities, Identity, Kernel, Samples, Timed, gather
from hwprune.errors import BackendError
from hwprune.target import Host

_START_S = 60.0


class CpuBackend:
    """onnxruntime's CPUExecutionProvider in processes of its own.

    Args:
        host: The machine to measure on; None: this one.
        options: The runtime's options by name ("arena", "spinning", "graph").

    Raises:
        UsageError: There is no such option or value.
    """

    name = "cpu"

    def __init__(self, host: Host | None = None, options: Mapping[str, str] | None = None) -> None:
        self._host = host
        self._options = RuntimeOptions.read(options or {})
        self.runtime_options: Mapping[str, str] = self._options.texts()

    def missing(self) -> str | None:
        """Why the target cannot be used, or None. Raises BackendError for an unreachable host."""
        if self._about["runtime"] is None:
            return "onnxruntime is not installed: pip install onnxruntime"
        return None

    def default_threads(self) -> int:
        """One per physical core a process may use there, as onnxruntime does."""
        return int(self._about["cores"])

    def identity(self) -> Identity:
        """CPU, runtime and how it is set up; from where it is measured makes no difference."""
        machine = dict(self._about["identity"])
        device = machine.pop("device")
        setup = {"provider": "CPUExecutionProvider", "threads": "intra-op, unpinned"}
        setup |= self.runtime_options
        return Identity("cpu", device, self._about["runtime"], machine | setup)

    def conditions(self) -> Mapping[str, str]:
        """Clock, quota, load and whatever else moves times on that machine."""
        return dict(self._described()["conditions"])

    def capabilities(self) -> Capabilities:
        """Each statement is checked against the optimised graph in tests/backends."""
        block = block_size() if self._host is None else int(self._about["block"])
        return capabilities(self._options, block, self._about["vnni"])

    def session_options(self, threads: int) -> Mapping[str, str]:
        """In the names of onnxruntime's `SessionOptions`."""
        return {"intra_op_num_threads": str(threads)} | self._options.session_options()

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
        for index, runs_ns, share in self._ask(request, limit_s):
            yield index, Timed(tuple(runs_ns), share)

    def time_models(
        self, models: Sequence[Path], threads: int, seconds: float, processes: int
    ) -> list[Samples]:
        """Times whole files in turns with `seconds` in each process. Raises BackendError."""
        if not models:
            return []
        contents = [_content(path) for path in models]
        request = {"task": "models", "threads": threads, "seconds": seconds}
        limit_s = 2 * _START_S * len(models) + 10 * seconds
        seen: list[list[Timed]] = [[] for _ in models]
        for seed in range(processes):
            for index, runs_ns, share in self._ask(request | {"seed": seed}, limit_s, contents):
                seen[index].append(Timed(tuple(runs_ns), share))
        return [gather(timed) for timed in seen]

    def _ask(
        self, request: dict[str, Any], limit_s: float, models: Sequence[bytes] = ()
    ) -> Iterator[Any]:
        request |= {"options": self._options.request()}
        return ask(sources("agent"), request, limit_s, models, self._host)

    @cached_property
    def _about(self) -> dict[str, Any]:
        return self._described()

    def _described(self) -> dict[str, Any]:
        """What the machine says of itself, now."""
        if self._host is None:
            return describe.describe()
        agent = sources("facts", "describe")
        (found,) = ask(agent, {}, _START_S, [reordering()], self._host, alone=False)
        return dict(found)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BackendError(f"cannot read {path}: {error.strerror}") from error
