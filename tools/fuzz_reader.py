#!/usr/bin/env python3
"""Feeds mutated model files to the reader and counts how it answers.

    python tools/fuzz_reader.py [--seeds 10] [--mutations 10000] [--keep DIR]

Every seed is a small random network; every mutation changes one to four of its bytes, or cuts,
repeats or swaps a part of it. A seed runs in a process of its own, with 2 GiB for what the reader
allocates and 30 s for each file; a process that dies or hangs is replaced by one that goes on with
the next file. Files that crash, hang or raise anything but a typed error are kept in DIR, and the
exit status is 1.
"""

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MEMORY, _SECONDS, _START_SECONDS = 2 << 30, 30, 30
_GOOD = ("read", "refused")


def main() -> int:
    options = _options()
    options.keep.mkdir(parents=True, exist_ok=True)
    print("| seed | read | refused | hung | crashed | untyped | slowest s | MB | s |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    bad = 0
    for seed in range(options.seeds):
        found, begin = Counter[str](), time.monotonic()
        slowest = peak = 0.0
        for answer in answers(seed, options.mutations, options.keep):
            found[answer["kind"]] += 1
            slowest, peak = max(slowest, answer["seconds"]), max(peak, answer["mb"])
        counts = " | ".join(str(found[k]) for k in (*_GOOD, "hung", "crashed", "untyped"))
        spent = time.monotonic() - begin
        print(f"| {seed} | {counts} | {slowest:.1f} | {peak:.0f} | {spent:.0f} |", flush=True)
        bad += sum(n for kind, n in found.items() if kind not in _GOOD)
    return 1 if bad else 0


def answers(seed: int, mutations: int, keep: Path) -> Iterator[dict[str, Any]]:
    """What came of every mutation of a seed; a child that dies or hangs is replaced."""
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        while done < mutations:
            for answer in _of_one_child(seed, done, mutations, path):
                if answer["kind"] not in _GOOD:
                    shutil.copy(path, keep / f"{seed}-{done}.onnx")
                    (keep / f"{seed}-{done}.json").write_text(json.dumps(answer))
                done += 1
                yield answer


def _of_one_child(seed: int, first: int, last: int, path: Path) -> Iterator[dict[str, Any]]:
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(
        target=_read_all, args=(seed, first, last, path, there)
    )
    child.start()
    there.close()
    for _ in range(first, last):
        if not here.poll(_START_SECONDS + _SECONDS):
            child.kill()
            yield {"kind": "hung", "seconds": float(_SECONDS), "mb": 0.0, "said": ""}
            break
        try:
            yield here.recv()
        except EOFError:
            child.join()
            said = f"exit status {child.exitcode}"
            yield {"kind": "crashed", "seconds": 0.0, "mb": 0.0, "said": said}
            break
    child.join()


def _read_all(seed: int, first: int, last: int, path: Path, answers: Any) -> None:
    """The child: reads mutations first to last, and says after each what came of it."""
    from hwprune.graph.read import read_graph  # with its libraries, before the limit

    original = _network(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, size + _MEMORY))
    for number in range(first, last):
        path.write_bytes(mutated(original, random.Random(f"{seed}/{number}")))
        begin = time.monotonic()
        kind, said = _outcome(read_graph, path)
        used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        seconds = time.monotonic() - begin
        answers.send({"kind": kind, "seconds": seconds, "mb": used, "said": said})
    answers.close()


def _outcome(read: Any, path: Path) -> tuple[str, str]:
    from hwprune.errors import HwpruneError

    try:
        read(path)
    except HwpruneError as error:
        return "refused", str(error)
    except BaseException as error:
        return "untyped", repr(error)
    return "read", ""


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """A damaged copy."""
    data = bytearray(raw)
    kind = rng.choice(("bytes", "bytes", "bytes", "bits", "cut", "repeat", "swap"))
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    if kind == "cut":
        del data[a : a + rng.randrange(1, 64)]
    elif kind == "repeat":
        data[a:a] = data[a : a + rng.randrange(1, 64)]
    elif kind == "swap":
        size = rng.randrange(1, 32)
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    else:
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data))
            data[at] = rng.randrange(256) if kind == "bytes" else data[at] ^ 1 << rng.randrange(8)
    return bytes(data)


def _network(seed: int) -> bytes:
    """A network whose bytes are structure rather than weights."""
    from hwprune.testing.networks import BLOCKS, HEADS, build_model

    rng = random.Random(seed)
    blocks = rng.sample(list(BLOCKS), 3)
    return build_model(*blocks, head=rng.choice(list(HEADS))).SerializeToString()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, default=Path("fuzzed"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
