#!/usr/bin/env python3
"""How one search goes faster with several processes, and whether anything is lost or done twice.

    python tools/bench_workers.py [--storage URL] [--seconds 1] [--evaluations 40]

Every evaluation sleeps for so many seconds, so that what is seen is the search's own cost: of
proposing, of claiming trials, of waiting for one another. The storage is an SQLite file unless a
database's address is given, which must hold no trials yet.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

from hwprune.search.decode import Decoder
from hwprune.search.problem import Assignment
from hwprune.search.study import Shared, join, search
from hwprune.testing.problems import budget_between, residual_chain

PROBLEM = (12, 8)  # and a seed: losses are shared by searches of one problem


def evaluator(context: Any) -> Callable[[Assignment], float]:
    problem = residual_chain(*context["problem"])

    def evaluate(assignment: Assignment) -> float:
        time.sleep(context["seconds"])
        return problem.estimated_loss(assignment)

    return evaluate


def work(storage: str, name: str, made: Any) -> None:
    made.put(join(storage, name, evaluator, wait=8.0))


def measure(storage: str, workers: int, seconds: float, evaluations: int) -> tuple[str, ...]:
    context = {"problem": (*PROBLEM, workers), "seconds": seconds}
    problem, name = residual_chain(*PROBLEM, workers), f"workers{workers}"
    budget = budget_between(problem, Decoder(problem).fastest().latency_ns, 0.35)
    spawn = get_context("spawn")
    made = spawn.Queue()
    others = [spawn.Process(target=work, args=(storage, name, made)) for _ in range(workers - 1)]
    for other in others:
        other.start()
    time.sleep(4.0 if others else 0.0)  # they import
    start = time.monotonic()
    found = search(
        problem, budget, evaluator(context), "random-weights", evaluations, workers, storage,
        shared=Shared(name, context),
    )  # fmt: skip
    took = time.monotonic() - start
    theirs = sum(made.get() for _ in others)
    distinct = len({json.dumps(e.assignment) for e in found.evaluated})
    rate = 60 * len(found.evaluated) / took
    return str(workers), f"{rate:.0f}", str(theirs), str(len(found.evaluated)), str(distinct)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--evaluations", type=int, default=40)
    args = parser.parse_args()
    print("| processes | evaluations a minute | by others | evaluations | distinct |")
    print("|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        storage = args.storage or f"{folder}/trials.db"
        for workers in (1, 2, 4):
            cells = measure(storage, workers, args.seconds, args.evaluations)
            print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
