#!/usr/bin/env python3
"""Feeds damaged .hwp files to the decoder and counts how it answers.

    python tools/fuzz_codec.py [--first 0] [--mutations 10000]

Every number stands for a file (`hwprune.testing.damage`): a third have damaged bytes, a third the
same with right checksums, a third other descriptions. A child process decodes one after another,
with 1 GiB for what the decoder allocates and 5 s for each; a child that dies or hangs is replaced
by one that goes on with the next. Whatever is neither refused nor a model is printed, warnings of
numpy included, and the exit status is 1.
"""

import argparse
import multiprocessing
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MEMORY, _SECONDS, _START_SECONDS = 1 << 30, 5, 60
_GOOD = ("refused", "model")
_KINDS = ("descriptions", "bytes, mended", "bytes")


def main() -> int:
    options = _options()
    found, bad, slowest, peak = Counter[tuple[int, str]](), 0, (0.0, 0), 0.0
    for number, answer in answers(options.first, options.first + options.mutations):
        found[number % 3, answer["kind"]] += 1
        slowest, peak = max(slowest, (answer["seconds"], number)), max(peak, answer["mb"])
        if answer["kind"] not in _GOOD:
            print(f"{number}: {answer['kind']} {answer['said']}", flush=True)
            bad += 1
    print("| damage | refused | model | other |\n|:--|--:|--:|--:|")
    for i, name in enumerate(_KINDS):
        good = [found[i, kind] for kind in _GOOD]
        others = sum(n for (j, _), n in found.items() if j == i) - sum(good)
        print(f"| {name} | {good[0]} | {good[1]} | {others} |")
    print(f"slowest: {slowest[0]:.2f} s (number {slowest[1]}); memory: {peak:.0f} MB")
    return 1 if bad else 0


def answers(first: int, last: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """What came of every number; a child that dies or hangs is replaced."""
    while first < last:
        for answer in _of_one_child(first, last):
            yield first, answer
            first += 1


def _of_one_child(first: int, last: int) -> Iterator[dict[str, Any]]:
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(
        target=_decode_all, args=(first, last, there)
    )
    child.start()
    there.close()
    for number in range(first, last):
        if not here.poll(_SECONDS + (_START_SECONDS if number == first else _SECONDS)):
            child.kill()
            yield {"kind": "hung", "seconds": float(_SECONDS), "mb": 0.0, "said": ""}
            break
        try:
            yield here.recv()
        except EOFError:
            child.join()
            said = f"exit status {child.exitcode}"
            yield {"kind": "died", "seconds": 0.0, "mb": 0.0, "said": said}
            break
    child.join()


def _decode_all(first: int, last: int, answers: Any) -> None:
    """The child: decodes first to last, and says after each what came of it."""
    from hwprune.testing.specimens import answer, damaged_specimen, specimens

    warnings.simplefilter("error")
    specimens()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, size + _MEMORY))
    for number in range(first, last):
        damaged = damaged_specimen(number)
        begin, said = time.process_time(), ""
        try:
            kind = answer(damaged)
        except BaseException as error:
            kind, said = "untyped", repr(error)
        seconds = time.process_time() - begin
        if seconds > _SECONDS:
            kind = "slow"
        used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        answers.send({"kind": kind, "seconds": seconds, "mb": used, "said": said})
    answers.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--mutations", type=int, default=10_000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
