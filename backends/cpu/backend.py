"""The `cpu` target: onnxruntime's CPU provider, on this machine or on another."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from hwprune.backends.cpu import describe
from hwprune.backends.cpu.capabilities import capabilities
from hwprune.backends.cpu.chains import Chain, chains_of, node_name, nothing
from hwprune.backends.cpu.child import ask, sources
from hwprune.backends.cpu.layout import block_size, reordering
from hwprune.backends.cpu.model import MicroModel
from hwprune.backends.cpu.options import RuntimeOptions

from hwprune.backend import PACE, RUN, Capabilities, Identity, Kernel, Samples, Timed, gather
from hwprune.errors import BackendError
from hwprune.target import Host

_START_S = 60.0
_AGENT = ("sessions", "visits", "turns", "agent")  # modules that are sent, in this order
_PLACES = {RUN: 0, PACE: 1}  # what is timed without a chain of its own: number of the model
# Arithmetic on 4 kB, without weights: what ran before it and left the caches full hardly tells.
_PACEMAKER = Kernel("Sigmoid", "fp32", ((1, 1024),), (1, 1024))


class CpuBackend:
    """onnxruntime's CPUExecutionProvider in processes of its own.

    Args:
        host: The machine to measure on; None: this one.
        options: The runtime's options by name ("arena", "spinning", "graph").

    Raises:
        UsageError: There is no such option or value.
    """

    name = "cpu"
    keeps_pace = True

    def __init__(self, host: Host | None = None, options: Mapping[str, str] | None = None) -> None:
        self._host = host
        self._options = RuntimeOptions.read(options or {})
        self._built: dict[Kernel, Chain] = {}
        self._pace_ns: float | None = None
        self.runtime_options: Mapping[str, str] = self._options.texts()

    def missing(self) -> str | None:
        """Why the target cannot be used, or None. Raises BackendError for an unreachable host."""
        if self._about["runtime"] is None:
            return "onnxruntime is not installed: pip install onnxruntime"
        return None

    def default_threads(self) -> int:
        """One per physical core a process may use there, as onnxruntime does, within its quota."""
        return int(self._about["cores"])

    def identity(self) -> Identity:
        """CPU, runtime and how it is set up; from where it is measured makes no difference."""
        machine = dict(self._about["identity"])
        device = machine.pop("device")
        setup = {"provider": "CPUExecutionProvider", "threads": "intra-op, unpinned"}
        setup["rows"] = "undisturbed runs of chains"  # other statistics give other times
        setup |= self.runtime_options
        return Identity("cpu", device, self._about["runtime"], machine | setup)

    def conditions(self) -> Mapping[str, str]:
        """Clock, quota, load and whatever else moves times on that machine."""
        return dict(self._described()["conditions"])

    def capabilities(self) -> Capabilities:
        """Each statement is checked against the optimised graph in tests/backends."""
        return capabilities(self._options, self._block, self._about["vnni"])

    def session_options(self, threads: int) -> Mapping[str, str]:
        """In the names of onnxruntime's `SessionOptions`."""
        return {"intra_op_num_threads": str(threads)} | self._options.session_options()

    def time_kernels(
        self, kernels: Sequence[Kernel], threads: int, runs: int, seed: int
    ) -> Iterator[tuple[int, Timed]]:
        """Times every kernel as a chain of the nodes that the runtime makes of it.

        Operators that cannot be built from their signature are priced by an elementwise kernel
        over the same output. Raises BackendError.
        """
        chains = self._chains([k for k in kernels if k not in _PLACES])
        work_s = sum(20e-9 * (runs + 10) * chain.expected_ns for chain in chains)
        sent = [Chain(nothing(), (), 1), *self._chains([_PACEMAKER]), *chains]
        models = [chain.model for chain in sent]
        more = {"copies": [chain.copies for chain in sent], "runs": runs, "seed": seed}
        more |= {"weights": [chain.weights for chain in sent], "pace_ns": self._pace_ns}
        places = _places(kernels)
        for number, runs_ns, share in self._timed("chains", threads, models, work_s, **more):
            for index in places.get(number, ()):
                if not runs_ns:
                    raise BackendError(f"onnxruntime failed to run {kernels[index].key()}")
                yield index, Timed(tuple(runs_ns), share)

    def keep_pace(self, pace_ns: float) -> None:
        """Runs count where the pacemaker takes no longer right behind them."""
        self._pace_ns = pace_ns

    def names(self, kernels: Sequence[Kernel]) -> list[tuple[str, ...]]:
        """Operators of onnxruntime's own graph, with the domain where it is not ONNX's."""
        chains = iter(self._chains([k for k in kernels if k not in _PLACES]))
        return [(k.op,) if k in _PLACES else next(chains).names for k in kernels]

    def executed(self, model: Path) -> Sequence[str]:
        """Of every node of a file, optimised as it will be run. Raises BackendError."""
        request = {"weights": [[]], "options": self._options.request()}
        ((_, text),) = self._asked("optimise", [_content(model)], request)
        if text is None:
            raise BackendError(f"onnxruntime refuses {model}")
        return [
            node_name(n) for n in onnx.load_model_from_string(base64.b64decode(text)).graph.node
        ]

    def time_models(
        self,
        models: Sequence[Path],
        threads: int,
        seconds: float,
        processes: int,
        patience: float = 1.0,
    ) -> list[Samples]:
        """Times whole files in turns with `seconds` in each process. Raises BackendError."""
        if not models:
            return []
        (pacemaker,) = self._chains([_PACEMAKER])
        contents = [*map(_content, models), pacemaker.model]
        work_s = _START_S * len(models) + 10 * seconds * max(1.0, patience)
        more = {"seconds": seconds, "pace_ns": self._pace_ns, "patience": patience}
        seen: list[list[Timed]] = [[] for _ in models]
        for seed in range(processes):
            found = self._timed("files", threads, contents, work_s, seed=seed, **more)
            for index, runs_ns, undisturbed_ns, share in found:
                seen[index].append(Timed(tuple(runs_ns), share, tuple(undisturbed_ns)))
        return [gather(timed) for timed in seen]

    def _chains(self, kernels: Sequence[Kernel]) -> list[Chain]:
        """One per kernel; what was built is remembered."""
        new = [k for k in dict.fromkeys(kernels) if k not in self._built]
        built = chains_of(new, self._block, self._optimised, self._shapes)
        self._built |= dict(zip(new, built, strict=True))
        return [self._built[k] for k in kernels]

    def _optimised(self, models: Sequence[MicroModel]) -> Iterator[onnx.ModelProto | None]:
        protos = [m.proto().SerializeToString() for m in models]
        request = {"weights": [m.weights for m in models], "options": self._options.request()}
        for _, text in self._asked("optimise", protos, request):
            yield None if text is None else onnx.load_model_from_string(base64.b64decode(text))

    def _shapes(self, chains: Sequence[Chain]) -> Iterator[Mapping[str, Any] | None]:
        request = {"weights": [chain.weights for chain in chains]}
        for _, found in self._asked("shapes", [c.model for c in chains], request):
            yield found

    def _asked(self, task: str, models: Sequence[bytes], more: dict[str, Any]) -> Iterator[Any]:
        """What needs no quiet machine."""
        if not models:
            return iter(())
        request = {"task": task, "threads": 1, **more}
        limit_s = _START_S + 2.0 * len(models)
        return ask(sources(*_AGENT), request, limit_s, models, self._host, alone=False)

    def _timed(
        self, task: str, threads: int, models: Sequence[bytes], work_s: float, **more: Any
    ) -> Iterator[Any]:
        request = {"task": task, "threads": threads, "options": self._options.request(), **more}
        limit_s = _START_S + 2.0 * len(models) + work_s
        return ask(sources(*_AGENT), request, limit_s, models, self._host)

    @property
    def _block(self) -> int:
        """Channels per block on the machine that measures."""
        return block_size() if self._host is None else int(self._about["block"])

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


def _places(kernels: Sequence[Kernel]) -> dict[int, list[int]]:
    """Where answers go, by number of the model: `_PLACES` first, then the chains in order."""
    found: dict[int, list[int]] = {number: [] for number in _PLACES.values()}
    for index, kernel in enumerate(kernels):
        found.setdefault(_PLACES.get(kernel, len(found)), []).append(index)
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BackendError(f"cannot read {path}: {error.strerror}") from error
