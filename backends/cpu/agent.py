"""The process that measures: a request on stdin, a line of JSON per answer on stdout.

Self-contained: the standard library, numpy and onnxruntime, nothing of hwprune, so that its source
can be sent to another machine and run there. A crash or hang of the runtime ends here and never
takes the compiler along. Times are taken with the garbage collector off and the inputs made
beforehand; the number of warm-up runs is fixed.

A request is one line of JSON; `models` in it are the sizes of the model files that follow as bytes.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime as ort

_WARM_UP = 3  # runs of a chain, each of them many executions of the kernel
_WAKE_UP_S = 0.2  # of work before the first timed run of a process
_LEAST_RUNS = 5
_LEAST_VISITS = 2  # that must have been left alone, if only they are to count
_PACE_S = 3.0  # over which the pace is told
_UNDISTURBED = 1.2  # times the pace: caches make it 1.1, a neighbour 1.5 and more
# Chains that are visited in turns, and the bytes that they may hold.
_TOGETHER, _TOGETHER_BYTES = 48, 1 << 28
_RUNS_A_VISIT = 2  # the faster one counts
_PATIENCE, _PATIENCE_S = 60, 0.3  # visits and seconds of runs after which a chain is given up
_OUTER_RUNS = 200  # of a session that does nothing: what a call costs
# Least runs and seconds of a turn: with threads there is more to hand over.
_TURN, _TURN_S = 2, 0.005
_TURN_OF_THREADS, _TURN_OF_THREADS_S = 4, 0.1
_REST_S, _LONGEST_REST_S = 0.01, 1.0
_IDLE = 0.2  # processor time over time below which nobody spins
_LARGE = 1 << 15  # bytes from which on a tensor is left out of an optimised model
_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def main() -> None:
    """Answers the request on stdin; the runtime's own messages go to stderr."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.readline())
    models = [sys.stdin.buffer.read(size) for size in request.pop("models", [])]
    ort.set_default_logger_severity(4)
    gc.disable()
    for line in _TASKS[request.pop("task")](models, **request):
        print(json.dumps(line), file=answer, flush=True)


def optimise(
    models: list[bytes], weights: list[Any], threads: int, options: dict[str, Any] | None = None
) -> Iterator[Any]:
    """[index, optimised model in base64, large tensors left out], or [index, None] if refused."""
    for index, (model, names) in enumerate(zip(models, weights)):
        try:
            with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
                found = _optimised(model, names, options or {}, threads, folder)
            yield [index, base64.b64encode(found).decode()]
        except Exception as error:
            print(error, file=sys.stderr)
            yield [index, None]


def _optimised(
    model: bytes, weights: list[Any], wanted: dict[str, Any], threads: int, folder: str
) -> bytes:
    path = os.path.join(folder, "optimised.onnx")
    options = session_options(wanted, threads)
    options.optimized_model_filepath = path
    prefix = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(prefix + "file_name", "weights.bin")
    options.add_session_config_entry(prefix + "min_size_in_bytes", str(_LARGE))
    open_session(model, options, weights)
    with open(path, "rb") as file:
        return file.read()


def shapes(models: list[bytes], weights: list[Any], threads: int) -> Iterator[Any]:
    """[index, {output: [type, shape]}] of models run as they are."""
    for index, (model, names) in enumerate(zip(models, weights)):
        try:
            session = open_session(model, session_options({"graph": "disable"}, threads), names)
            outputs = [o.name for o in session.get_outputs()]
            values = session.run_with_ort_values(outputs, feeds_of(session))
            kinds = [_numpy_type(v.data_type()) for v in values]
            yield [index, {n: [k, v.shape()] for n, k, v in zip(outputs, kinds, values)}]
        except Exception as error:
            print(error, file=sys.stderr)
            yield [index, None]


def chains(
    models: list[bytes],
    weights: list[Any],
    copies: list[int],
    threads: int,
    runs: int,
    seed: int,
    pace_ns: float | None = None,
    options: dict[str, Any] | None = None,
) -> Iterator[Any]:
    """[index, nanoseconds per copy and run, share of its cores] of chains of equal nodes.

    Chains are visited in turns until each has been left alone in `runs` visits; what the call
    itself costs is taken off. Model 0 must be the one that does nothing, and model 1 the pacemaker,
    which takes `pace_ns` where nobody disturbs it; without that it is told from its beats.
    """
    wanted = dict(options or {}, graph="disable")
    nothing = open_session(models[0], session_options(wanted, threads), [])
    yield [0, _outer(call_of(nothing)), 1.0]
    once = float(np.percentile(_outer(bound_call_of(nothing)), 20))
    pace = Pacemaker(open_session(models[1], session_options(wanted, 1), weights[1]), pace_ns)
    yield [1, pace.told, 1.0]
    rng = random.Random(seed)
    order = iter(rng.sample(range(2, len(models)), len(models) - 2))
    while together := _opened(order, models, weights, lambda: session_options(wanted, threads)):
        _visit_in_turns([c for c in together if c.call], runs, pace, rng)
        for chain in together:
            times = [max(1, round((t - once) / copies[chain.index])) for t in chain.counted()]
            yield [chain.index, times, chain.share(threads, pace)]


class _Timed:
    """A chain while it is timed; without a call where the runtime refuses it."""

    def __init__(self, index: int, call: Callable[[], Any] | None) -> None:
        self.index, self.call = index, call
        self.wall, self.cpu = 0, 0.0
        self.undisturbed: list[int] = []
        self.disturbed: list[int] = []
        self.beats: list[int] = []

    def visit(self, pace: Pacemaker) -> None:
        """The first run of a visit finds the caches as others left them and does not count."""
        assert self.call is not None
        self.call()
        start = time.process_time()
        times = [_timed(self.call) for _ in range(_RUNS_A_VISIT)]
        self.cpu, self.wall = self.cpu + time.process_time() - start, self.wall + sum(times)
        self.beats.append(pace.beat())
        alone = self.beats[-1] <= _UNDISTURBED * pace.usual
        (self.undisturbed if alone else self.disturbed).append(min(times))

    def done(self, runs: int) -> bool:
        """Whether enough visits were left alone, or no more are worth trying."""
        visits = len(self.undisturbed) + len(self.disturbed)
        given_up = visits >= _PATIENCE or self.wall > _PATIENCE_S * 1e9
        return len(self.undisturbed) >= runs or (given_up and visits >= _LEAST_RUNS)

    def counted(self) -> list[int]:
        """Runs that were left alone; where they are too few, as many of the fastest."""
        if len(self.undisturbed) >= _LEAST_VISITS:
            return self.undisturbed
        return sorted(self.undisturbed + self.disturbed)[:_LEAST_VISITS]

    def share(self, threads: int, pace: Pacemaker) -> float:
        """Of its cores that the process had: CPU time over wall time, and what neighbours left.

        CPU time says nothing with more threads: kernels too small to be shared leave cores idle.
        """
        had = self.cpu * 1e9 / max(1, self.wall) if threads == 1 else 1.0
        alone = len(self.undisturbed) >= _LEAST_VISITS or not self.beats
        return had if alone else had * min(1.0, pace.usual / float(np.median(self.beats)))


def _opened(
    order: Iterator[int],
    models: list[bytes],
    weights: list[Any],
    options: Callable[[], ort.SessionOptions],
) -> list[_Timed]:
    """The next chains that fit in memory together, warmed up."""
    found: list[_Timed] = []
    held = 0
    for index in order:
        call = None
        try:
            call = bound_call_of(open_session(models[index], options(), weights[index]))
            for _ in range(_WARM_UP):
                call()
        except Exception as error:
            print(error, file=sys.stderr)
            call = None
        found.append(_Timed(index, call))
        held += len(models[index]) + sum(_bytes(kind, shape) for _, kind, shape in weights[index])
        if len(found) >= _TOGETHER or held > _TOGETHER_BYTES:
            break
    return found


def _bytes(kind: str, shape: list[int]) -> int:
    return int(np.dtype(kind).itemsize * np.prod(shape))


def _visit_in_turns(left: list[_Timed], runs: int, pace: Pacemaker, rng: random.Random) -> None:
    while left:
        for chain in rng.sample(left, len(left)):
            chain.visit(pace)
        left = [chain for chain in left if not chain.done(runs)]


def _outer(call: Callable[[], Any]) -> list[int]:
    """What calling a session that does nothing costs, after the processor has woken up."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < _WAKE_UP_S:
        call()
    return [_timed(call) for _ in range(_OUTER_RUNS)]


class Pacemaker:
    """A short chain that is always the same, to tell whether the machine is disturbed right now.

    Who shares a core with others is slowed down for some tenths of a millisecond up to seconds, by
    a third to nine tenths, each kernel differently: a burst of runs tells either of two times. Of
    runs that are spread out, those next to an undisturbed beat agree within 1 to 2 %.
    """

    def __init__(self, session: ort.InferenceSession, usual: float | None) -> None:
        self._call = bound_call_of(session)
        begin, beats = time.perf_counter(), [self.beat() for _ in range(_LEAST_RUNS)]
        while usual is None and time.perf_counter() - begin < _PACE_S:
            beats.append(self.beat())
        self.told = sorted(beats)[:_LEAST_RUNS]
        self.usual = usual or float(np.median(self.told))

    def beat(self) -> int:
        """Nanoseconds of one run, now."""
        return _timed(self._call)


def _timed(call: Callable[[], Any]) -> int:
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


def call_of(session: ort.InferenceSession) -> Callable[[], Any]:
    """A call as programs make it, numpy in and numpy out (7 us; `run_with_ort_values` takes 50 to
    110, by chance).
    """
    outputs = [o.name for o in session.get_outputs()]
    feeds = {name: value.numpy() for name, value in feeds_of(session).items()}
    return lambda: session.run(outputs, feeds)


def bound_call_of(session: ort.InferenceSession) -> Callable[[], Any]:
    """The leanest call that there is: nothing is copied (3 us)."""
    binding = session.io_binding()
    for name, value in feeds_of(session).items():
        binding.bind_ortvalue_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def session_options(wanted: dict[str, Any], threads: int) -> ort.SessionOptions:
    """As the target is set up; what is not said is onnxruntime's default."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = wanted.get("arena", True)
    options.graph_optimization_level = _LEVELS[wanted.get("graph", "all")]
    if not wanted.get("spinning", True):
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(
    model: bytes, options: ort.SessionOptions, weights: list[Any]
) -> ort.InferenceSession:
    """A session on the CPU; `weights` are [name, numpy type, shape] of tensors to make up."""
    names = [name for name, _, _ in weights]
    values = [ort.OrtValue.ortvalue_from_numpy(made_up(kind, shape)) for _, kind, shape in weights]
    options.add_external_initializers(names, values)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.hwprune_weights = values  # they must outlive it
    return session


def feeds_of(session: ort.InferenceSession) -> dict[str, Any]:
    """An input of the right type and shape for each one the session has."""
    return {
        i.name: ort.OrtValue.ortvalue_from_numpy(
            made_up(_numpy_type(i.type), [n if isinstance(n, int) else 1 for n in i.shape])
        )
        for i in session.get_inputs()
    }


def made_up(kind: str, shape: list[int]) -> Any:
    """Values that no operator chokes on: floats between 0.1 and 1, bytes, zeros for indices."""
    rng = np.random.default_rng(0)
    if kind in ("float32", "float16", "float64"):
        return rng.uniform(0.1, 1.0, shape).astype(kind)
    if kind == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "int8":
        return rng.integers(-63, 64, shape, dtype=np.int8)
    return np.zeros(shape, kind)


def _numpy_type(kind: str) -> str:
    name = kind[len("tensor(") : -1]
    return {"float": "float32", "double": "float64"}.get(name, name)


def files(
    models: list[bytes],
    threads: int,
    seconds: float,
    seed: int,
    options: dict[str, Any] | None = None,
) -> Iterator[Any]:
    """[index, nanoseconds of every run, CPU time over wall time] of whole models, in turns."""
    sessions = [open_session(m, session_options(options or {}, threads), []) for m in models]
    calls = [call_of(session) for session in sessions]
    order = [(seed + i) % len(models) for i in range(len(models))]
    for i in order:
        _warm_up(calls[i])
    runs: list[list[int]] = [[] for _ in models]
    cpu = [0.0] * len(models)
    begin = time.perf_counter()
    while not _enough(len(runs[order[-1]]), time.perf_counter() - begin, seconds):
        for i in order:
            if threads > 1:
                _rest()
            # The caches hold what the other model left; a network in service runs again and again.
            calls[i]()
            turn, done = time.perf_counter(), 0
            while not _turn_over(done, time.perf_counter() - turn, threads):
                used = time.process_time()
                runs[i].append(_timed(calls[i]))
                cpu[i] += time.process_time() - used
                done += 1
    for i, (r, c) in enumerate(zip(runs, cpu)):
        yield [i, r, c * 1e9 / sum(r) / threads]


def _turn_over(done: int, used: float, threads: int) -> bool:
    if threads > 1:
        return done >= _TURN_OF_THREADS and used >= _TURN_OF_THREADS_S
    return done >= _TURN and used >= _TURN_S


def _rest() -> None:
    """Waits until the threads of the other sessions have stopped spinning for work.

    They would take this session's cores: for some 50 ms after a run, which made networks of a few
    milliseconds look nearly twice as slow as they are.
    """
    begin = time.perf_counter()
    while time.perf_counter() - begin < _LONGEST_REST_S:
        used, start = time.process_time(), time.perf_counter()
        time.sleep(_REST_S)
        if time.process_time() - used < _IDLE * (time.perf_counter() - start):
            return


def _warm_up(call: Callable[[], Any]) -> None:
    begin, done = time.perf_counter(), 0
    while done < 3 or (done < 10 and time.perf_counter() - begin < 0.5):
        call()
        done += 1


def _enough(runs: int, used: float, seconds: float) -> bool:
    """The time is used and 10 runs a second are done, or three times the time is used."""
    return (used >= seconds and runs >= 10 * seconds) or (
        used >= 3 * seconds and runs >= _LEAST_RUNS
    )


_TASKS: dict[str, Any] = {
    "optimise": optimise,
    "shapes": shapes,
    "chains": chains,
    "files": files,
}

if __name__ == "__main__":
    main()
