"""The child process that measures: a JSON request on stdin, a line of JSON per answer on stdout.

A crash or hang of the runtime ends here and never takes the compiler along. Times are taken with
the garbage collector off and the inputs made beforehand; warm-up runs are fixed in number.
"""

import gc
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from hwprune.backends.cpu.cost import copies, expected_ns, size_bytes
from hwprune.backends.cpu.micro import build, stand_in
from numpy.typing import NDArray

from hwprune.backend import Kernel

# As warm in the caches as in a network: sessions of 300 nodes came out up to 40 % slow, those of
# this size within 7 % of the same kernels' times in whole networks.
_GROUP_NODES = 20
_GROUP_BYTES = 1 << 22
_WARM_UP = 4
_LEAST_RUNS = 5
_TURN, _TURN_S = 4, 0.1  # least runs and seconds of a turn, where there are threads to hand over
_REST_S, _LONGEST_REST_S = 0.01, 1.0
_IDLE = 0.2  # processor time over time below which nobody spins
_GROUP_SECONDS = 0.1  # a group that has used them stops after a third of the runs
_NAME = re.compile(r"\bk(\d+)\.(\d+)/.*_kernel_time$")

_options: dict[str, Any] = {"arena": True, "spinning": True, "graph": "all"}
_LEVELS = {"all": "ENABLE_ALL", "extended": "ENABLE_EXTENDED", "basic": "ENABLE_BASIC"}
_LEVELS |= {"disable": "DISABLE_ALL"}
Timed = tuple[list[int], float]  # nanoseconds per run, CPU time over wall time


def main() -> None:
    """Answers the request on stdin; the runtime's own messages go to stderr."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.readline())
    models = [sys.stdin.buffer.read(size) for size in request.pop("models")]
    ort.set_default_logger_severity(3)
    gc.disable()
    task = request.pop("task")
    _options.update(request.pop("options", {}))
    timed = time_kernels(**request) if task == "kernels" else time_models(models, **request)
    for index, (runs, share) in timed:
        print(json.dumps([index, runs, share]), file=answer, flush=True)


def time_kernels(
    kernels: Sequence[Any], threads: int, runs: int, seed: int
) -> Iterator[tuple[int, Timed]]:
    """Times kernels in groups, each group interleaved in one session, in random order."""
    chosen, folder = [kernel_from_json(k) for k in kernels], tempfile.gettempdir()
    order = random.Random(seed).sample(range(len(chosen)), len(chosen))
    for group in _groups(order, chosen):
        yield from _time_group(group, chosen, threads, runs, Path(folder)).items()


def kernel_from_json(fields: Any) -> Kernel:
    """Reads what `Kernel.key` writes."""
    op, precision, inputs, output, attributes, fused = fields
    return Kernel(
        op,
        precision,
        tuple(tuple(s) for s in inputs),
        tuple(output),
        tuple((k, v) for k, v in attributes),
        tuple(fused),
    )


def _groups(order: Sequence[int], kernels: Sequence[Kernel]) -> Iterator[list[int]]:
    """Cuts the order into groups of one session each; slow kernels are kept among themselves."""
    slow = [i for i in order if expected_ns(kernels[i]) > 1e6]
    for part in (slow, [i for i in order if i not in set(slow)]):
        group: list[int] = []
        nodes = size = 0
        for index in part:
            count = copies(kernels[index])
            nodes, size = nodes + count, size + count * size_bytes(kernels[index])
            if group and (nodes > _GROUP_NODES or size > _GROUP_BYTES):
                yield group
                group, nodes, size = [], count, count * size_bytes(kernels[index])
            group.append(index)
        if group:
            yield group


def _time_group(
    group: Sequence[int], kernels: Sequence[Kernel], threads: int, runs: int, folder: Path
) -> dict[int, Timed]:
    """Times one group; if it cannot be built, its halves, and at last a stand-in."""
    forms = {i: copies(kernels[i]) for i in group}
    names = [(f"k{i}.{r}/", kernels[i]) for i, count in forms.items() for r in range(count)]
    try:
        session = _open(build(names).SerializeToString(), threads, folder)
        share, events = _profile(session, runs, threads)
    except Exception:
        # Whatever the runtime or the builder dislikes about one kernel must not cost the others.
        if len(group) == 1:
            return _time_stand_in(group[0], kernels, threads, runs, folder)
        middle = len(group) // 2
        return _time_group(group[:middle], kernels, threads, runs, folder) | _time_group(
            group[middle:], kernels, threads, runs, folder
        )
    found = {i: (_times(events, i, forms[i]), share) for i in group}
    lost = [i for i in group if not found[i][0]]
    if lost == list(group):
        return {i: (_all_times(events, forms[i]), share) for i in group}
    for i in lost:  # the optimiser renamed it: alone in a session, all that runs is this kernel
        found |= _time_group([i], kernels, threads, runs, folder)
    return found


def _time_stand_in(
    index: int, kernels: Sequence[Kernel], threads: int, runs: int, folder: Path
) -> dict[int, Timed]:
    replacement = stand_in(kernels[index])
    if kernels[index] == replacement:
        raise RuntimeError(f"onnxruntime refuses even {replacement.key()}")
    return {index: _time_group([0], [replacement], threads, runs, folder)[0]}


def _open(model: bytes, threads: int, folder: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    level = f"ORT_{_LEVELS[_options['graph']]}"
    options.enable_cpu_mem_arena = _options["arena"]
    spinning = str(int(_options["spinning"]))
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    if folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _profile(
    session: ort.InferenceSession, runs: int, threads: int
) -> tuple[float, dict[str, list[int]]]:
    """Runs the session; (CPU share, event name -> microseconds in order of time)."""
    outputs = [o.name for o in session.get_outputs()]
    feeds = _feeds(session)
    for _ in range(_WARM_UP):
        session.run_with_ort_values(outputs, feeds)
    wall, cpu, done = time.perf_counter(), time.process_time(), 0
    while done < runs:
        session.run_with_ort_values(outputs, feeds)
        done += 1
        if 3 * done >= runs and time.perf_counter() - wall > _GROUP_SECONDS:
            break
    share = (time.process_time() - cpu) / (time.perf_counter() - wall) / threads
    return share, _events(Path(session.end_profiling()), done)


def _events(path: Path, runs: int) -> dict[str, list[int]]:
    """Microseconds of every node in each of the last `runs` runs."""
    found: dict[str, list[int]] = {}
    for event in json.loads(path.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found.setdefault(event["name"], []).append(int(event["dur"]))
    path.unlink()
    total = runs + _WARM_UP  # nodes of the same name follow each other within a run
    in_turn = {n: np.reshape(d, (total, -1)).sum(axis=1) for n, d in found.items()}
    return {name: durations[_WARM_UP:].tolist() for name, durations in in_turn.items()}


def _times(events: dict[str, list[int]], index: int, count: int) -> list[int]:
    """Nanoseconds per run of one kernel: its nodes summed, its copies averaged."""
    named = ((_NAME.search(name), durations) for name, durations in events.items())
    return _average([d for match, d in named if match and int(match[1]) == index], count)


def _all_times(events: dict[str, list[int]], count: int) -> list[int]:
    around = ("lead/", "ReorderInput", "ReorderOutput")
    return _average([d for name, d in events.items() if not name.startswith(around)], count)


def _average(nodes: Sequence[Sequence[int]], count: int) -> list[int]:
    return [max(1, round(1000 * sum(run) / count)) for run in zip(*nodes, strict=True)]


def _feeds(session: ort.InferenceSession) -> dict[str, ort.OrtValue]:
    """Inputs of the session; all share one buffer, warm as a predecessor's output would be."""
    values = {i.name: (i.type, _static(i.shape)) for i in session.get_inputs()}
    most = max(int(np.prod(s)) for _, s in values.values())
    feeds = {}
    for name, (kind, shape) in values.items():
        view = _buffer(kind, 1 << most.bit_length())[: int(np.prod(shape))].reshape(shape)
        feeds[name] = ort.OrtValue.ortvalue_from_numpy(view)
    return feeds


@lru_cache(maxsize=4)
def _buffer(kind: str, count: int) -> NDArray[Any]:
    """Values for inputs of an ONNX type: noise for floats and bytes, zeros for the others."""
    rng = np.random.default_rng(0)
    if kind == "tensor(float)":
        return rng.standard_normal(count, dtype=np.float32)
    if kind == "tensor(uint8)":
        return rng.integers(0, 256, count, dtype=np.uint8)
    return np.zeros(count, _numpy_type(kind))


def _static(shape: Sequence[int | str | None]) -> tuple[int, ...]:
    return tuple(n if isinstance(n, int) else 1 for n in shape)


def _numpy_type(kind: str) -> Any:
    name = kind.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"double": "float64", "float16": "float16"}.get(name, name))


def time_models(
    models: Sequence[bytes], threads: int, seconds: float, seed: int
) -> Iterator[tuple[int, Timed]]:
    """Times whole files in turns, A B A B ..., starting with another one in every process."""
    sessions = [_open(model, threads) for model in models]
    feeds = [_feeds(s) for s in sessions]
    outputs = [[o.name for o in s.get_outputs()] for s in sessions]
    order = [(seed + i) % len(models) for i in range(len(models))]
    for i in order:
        _warm_up(sessions[i], outputs[i], feeds[i])
    runs: list[list[int]] = [[] for _ in models]
    cpu = [0.0] * len(models)
    begin = time.perf_counter()
    while not _enough(len(runs[order[-1]]), time.perf_counter() - begin, seconds):
        for i in order:
            if threads > 1:
                _rest()
                sessions[i].run_with_ort_values(outputs[i], feeds[i])
            turn, done = time.perf_counter(), 0
            while not _turn_over(done, time.perf_counter() - turn, threads):
                used, start = time.process_time(), time.perf_counter_ns()
                sessions[i].run_with_ort_values(outputs[i], feeds[i])
                runs[i].append(time.perf_counter_ns() - start)
                cpu[i] += time.process_time() - used
                done += 1
    for i, (r, c) in enumerate(zip(runs, cpu, strict=True)):
        yield i, (r, c * 1e9 / sum(r) / threads)


def _turn_over(done: int, used: float, threads: int) -> bool:
    return done >= 1 if threads == 1 else done >= _TURN and used >= _TURN_S


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


def _warm_up(session: ort.InferenceSession, outputs: list[str], feeds: dict[str, Any]) -> None:
    begin, done = time.perf_counter(), 0
    while done < 3 or (done < 10 and time.perf_counter() - begin < 0.5):
        session.run_with_ort_values(outputs, feeds)
        done += 1


def _enough(runs: int, used: float, seconds: float) -> bool:
    """The time is used and 10 runs a second are done, or three times the time is used."""
    return (used >= seconds and runs >= 10 * seconds) or (
        used >= 3 * seconds and runs >= _LEAST_RUNS
    )


if __name__ == "__main__":
    main()
