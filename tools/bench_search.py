#!/usr/bin/env python3
"""Every search strategy on problems whose optimum is known, at equal numbers of evaluations.

    python tools/bench_search.py --work DIR [--layers 20 40 80] [--coupled 40] [--seeds 10]
                                 [--evaluations 150] [--only bo ...] [--jobs 2]

The problems are random chains with residual streams and staircase latencies (methods of
`hwprune.testing.problems`). The measured loss weighs every layer otherwise than the estimates do:
a hidden factor of 2 ** N(0, 1.2) for each, and, in the rows named `coupled`, a term for every two
neighbours that no sum over layers can tell. Regret is what is lost beyond the optimum, as a share
of the knapsack's regret; the optimum is the decoder's answer to the hidden weights (coupled: the
best that anything found). Searches that are finished are kept in DIR and not run again.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from hwprune.search.catalogue import STRATEGIES
from hwprune.search.decode import Decoder
from hwprune.search.problem import Assignment, Problem
from hwprune.search.study import search
from hwprune.testing.problems import budget_between, residual_chain

OPTIONS = 8
SHARE = 0.35  # of the way from the fastest network to the untouched one
COUPLING = 0.5
MARKS = (10, 25, 50, 100, 150)
NEEDS_TINY = "exhaustive"


@dataclass(frozen=True)
class Case:
    """One problem."""

    layers: int
    seed: int
    coupled: bool

    @property
    def kind(self) -> str:
        """What rows are told apart by."""
        return f"{self.layers} layers{', coupled' if self.coupled else ''}"

    def problem(self) -> Problem:
        """Widths and branches, no precisions."""
        return residual_chain(self.layers, OPTIONS, self.seed, kernels=False)

    def hidden(self, problem: Problem) -> dict[str, float]:
        """What the estimates do not know: log2 multipliers of the truth."""
        rng = np.random.default_rng([self.seed, 9])
        return {k: float(rng.normal(0, 1.2)) for k in problem.knobs}

    def measured(self, problem: Problem) -> Callable[[Assignment], float]:
        """The loss that is searched for."""
        weights = self.hidden(problem)

        def evaluate(assignment: Assignment) -> float:
            parts = dict.fromkeys(problem.knobs, 0.0)
            for f in problem.loss:
                parts[str(f.knob)] += 2.0 ** weights[str(f.knob)] * f.at(assignment)
            found = np.array(list(parts.values()))
            together = np.sqrt(np.maximum(found[1:] * found[:-1], 0.0)).sum()
            return float(found.sum() + (COUPLING * together if self.coupled else 0.0))

        return evaluate


def budget_of(problem: Problem, decoder: Decoder) -> float:
    return budget_between(problem, decoder.fastest().latency_ns, SHARE)


def run(case: Case, strategy: str, evaluations: int) -> list[float]:
    """The least loss after each evaluation."""
    problem = case.problem()
    budget = budget_of(problem, Decoder(problem))
    found = search(
        problem, budget, case.measured(problem), strategy, evaluations, case.seed
    ).best_so_far
    return [*found, *[found[-1]] * (evaluations - len(found))]


def known_best(case: Case) -> float:
    """The measured loss of the decoder's answer to the hidden weights."""
    problem = case.problem()
    decoder = Decoder(problem)
    ideal = decoder.decode(budget_of(problem, decoder), case.hidden(problem)).assignment
    return case.measured(problem)(ideal)


def result_path(work: Path, case: Case, strategy: str, evaluations: int) -> Path:
    return work / f"{strategy}-{case.layers}-{case.seed}-{int(case.coupled)}-{evaluations}.json"


def missing(
    work: Path, cases: Sequence[Case], strategies: Sequence[str], evaluations: int
) -> Iterator[tuple[Case, str, Path]]:
    for strategy, case in product(strategies, cases):
        if not (path := result_path(work, case, strategy, evaluations)).exists():
            yield case, strategy, path


def fill(args: argparse.Namespace, cases: Sequence[Case], strategies: Sequence[str]) -> None:
    with ProcessPoolExecutor(args.jobs) as pool:
        waiting = {
            pool.submit(run, case, strategy, args.evaluations): path
            for case, strategy, path in missing(args.work, cases, strategies, args.evaluations)
        }
        for done in as_completed(waiting):
            path = waiting[done]
            path.write_text(json.dumps(done.result()))


def table(args: argparse.Namespace, cases: Sequence[Case], strategies: Sequence[str]) -> None:
    marks = [m for m in MARKS if m <= args.evaluations]
    print("| problem | strategy |", " | ".join(f"after {m}" for m in marks), "| best in |")
    print("|---|---|", "--:|" * (len(marks) + 1), sep="")
    for kind in dict.fromkeys(c.kind for c in cases):
        among = [c for c in cases if c.kind == kind]
        regrets = regrets_of(args, among, strategies)
        least = {c: min(regrets[s][c][-1] for s in regrets) for c in among}
        for strategy, found in regrets.items():
            wins = sum(found[c][-1] <= least[c] + 1e-9 for c in among)
            cells = [f"{np.median([found[c][m - 1] for c in among]):.3f}" for m in marks]
            print(f"| {kind} | {strategy} |", " | ".join(cells), f"| {wins} of {len(among)} |")


def regrets_of(
    args: argparse.Namespace, cases: Sequence[Case], strategies: Sequence[str]
) -> Mapping[str, Mapping[Case, list[float]]]:
    """By strategy and case: regret after each evaluation as a share of the knapsack's."""
    losses: dict[str, dict[Case, list[float]]] = {s: {} for s in strategies}
    for strategy, case in product(strategies, cases):
        path = result_path(args.work, case, strategy, args.evaluations)
        losses[strategy][case] = json.loads(path.read_text())
    best = {c: min([known_best(c), *(losses[s][c][-1] for s in strategies)]) for c in cases}
    plain = {c: losses["knapsack"][c][0] - best[c] for c in cases}
    return {
        s: {c: [(v - best[c]) / plain[c] for v in found] for c, found in of.items()}
        for s, of in losses.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--layers", type=int, nargs="+", default=[20, 40, 80])
    parser.add_argument("--coupled", type=int, nargs="*", default=[40])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--only", nargs="+", default=[s for s in STRATEGIES if s != NEEDS_TINY])
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    strategies = list(dict.fromkeys(["knapsack", *args.only]))
    kinds = [(n, False) for n in args.layers] + [(n, True) for n in args.coupled]
    cases = [Case(n, seed, coupled) for n, coupled in kinds for seed in range(args.seeds)]
    fill(args, cases, strategies)
    table(args, cases, strategies)


if __name__ == "__main__":
    main()
