"""How long a decode takes and how far it is from the optimum (HiGHS), on random residual chains.

python tools/bench_decode.py [--milp-seconds 60]
"""

import argparse
import time
from statistics import mean, median

import numpy as np

from hwprune.search.decode import Decoder
from hwprune.search.problem import Problem
from hwprune.testing.problems import budget_between, milp_bound, residual_chain

_SHARES = (0.2, 0.4, 0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--milp-seconds", type=float, default=60.0)
    seconds = parser.parse_args().milp_seconds
    print("kernels fixed: widths and branches only; gap: to HiGHS' lower bound, mean and worst")
    heads = ("groups", "options", "free cpu ms", "fixed ms", "gap %", "worst %")
    print(*(f"{head:>11}" for head in heads))
    for groups, options in ((20, 8), (40, 8), (60, 8), (20, 16), (40, 16)):
        free = residual_chain(groups, options, seed=1)
        print(
            _row(groups, options, free, residual_chain(groups, options, 1, kernels=False), seconds)
        )


def _row(groups: int, options: int, free: Problem, fixed: Problem, seconds: float) -> str:
    decoder = Decoder(fixed)
    gaps: list[float] = []
    for share in _SHARES:
        budget = budget_between(fixed, decoder.fastest().latency_ns, share)
        _, bound = milp_bound(fixed, budget, seconds)
        gaps.append(decoder.decode(budget).loss / bound - 1)
    times = [1e3 * _time(p) for p in (free, fixed)]
    found = (groups, options, *times, 100 * mean(gaps), 100 * max(gaps))
    return " ".join(f"{v:11.2f}" if isinstance(v, float) else f"{v:11}" for v in found)


def _time(problem: Problem, repeats: int = 15) -> float:
    """CPU seconds a decode at random multipliers, after the first."""
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.4)
    rng = np.random.default_rng(0)
    spent: list[float] = []
    for _ in range(repeats):
        multipliers = {k: rng.uniform(-2, 2) for k in problem.knobs}
        start = time.process_time()
        decoder.decode(budget, multipliers)
        spent.append(time.process_time() - start)
    return median(spent)


if __name__ == "__main__":
    main()
