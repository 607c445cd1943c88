#!/usr/bin/env python3
"""Every criterion at the same widths: which channels go is all that differs.

    python tools/bench_criteria.py --train-data T.npz --eval-data E.npz --model M [--weights W]
                                   [--scale 1] [--shares 0.75 0.5] [--seeds 2] [--judged 2500]

Every group keeps the same share of its channels, those that the criterion ranks highest; what is
left is repaired by least squares, nothing is trained. `loss` is the divergence from the original's
answers on held-out training images, by which criteria are chosen; top-1 is that of the first
`--judged` evaluation images, which nothing here is chosen by. Seeds draw the samples that rank
and repair.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch

from hwprune.compiler import CompileOptions
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.plan import Plan
from hwprune.pruning.criteria import rank_channels
from hwprune.pruning.reconstruct import THOROUGH
from hwprune.registry import METHODS
from hwprune.stages.candidates import repaired
from hwprune.stages.losses import make_evaluator
from hwprune.stages.sources import Job, load_job
from hwprune.units import Budget

RANKING, JUDGING = 128, 512  # samples, as in a compile


def main() -> None:
    args = options()
    job = load_job(
        CompileOptions(
            budget=Budget(ratio=1.0), model=args.model, weights=args.weights, target="null",
            train_data=args.train_data, eval_data=args.eval_data, scale=args.scale,
        )
    )  # fmt: skip
    print(f"{job.model.name}, {args.seeds} seeds: loss (least to most) and top-1, mean")
    print("| criterion | seconds |", *(f"loss at {s:g} | top-1 |" for s in args.shares))
    print(f"|---|--:|{'--:|--:|' * len(args.shares)}")
    for criterion in args.only:
        print(row(job, criterion, args), flush=True)


def row(job: Job, criterion: str, args: argparse.Namespace) -> str:
    shares, seeds, judged = args.shares, args.seeds, slice(args.judged)
    losses: dict[float, list[float]] = {s: [] for s in shares}
    right: dict[float, list[float]] = {s: [] for s in shares}
    spent: list[float] = []
    for seed in range(seeds):
        drawn = replace(job, options=replace(job.options, seed=seed))
        start = time.perf_counter()
        x = drawn.calibration(RANKING)
        ranked = rank_channels(job.graph, job.coupling, x, criterion, seed)
        spent.append(time.perf_counter() - start)
        evaluator = make_evaluator(drawn, JUDGING, THOROUGH)
        for share in shares:
            kept = {g: max(1, round(share * job.coupling.full[g])) for g in ranked}
            plan = Plan({g: ranked[g].kept(width) for g, width in kept.items()})
            losses[share].append(evaluator.loss(plan))
            twin = to_module(repaired(job.graph, plan, evaluator.reference))
            x, y = job.splits.eval.inputs(judged), job.splits.eval.y
            assert y is not None, "the evaluation data need labels"
            answers = outputs(twin, tuple(map(torch.from_numpy, x)))[0].argmax(1).numpy()
            right[share].append(100 * float((answers == y[judged]).mean()))
    cells = (
        f"{mean(losses[s]):.4f} ({min(losses[s]):.4f} to {max(losses[s]):.4f}) | "
        f"{mean(right[s]):.2f}"
        for s in shares
    )
    return f"| {criterion} | {mean(spent):.1f} | {' | '.join(cells)} |"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--train-data", required=True)
    parser.add_argument("--eval-data", required=True)
    parser.add_argument("--scale", type=float)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.75, 0.5])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--judged", type=int, default=2500)
    parser.add_argument("--only", nargs="+", default=list(METHODS["criterion"]))
    return parser.parse_args()


if __name__ == "__main__":
    main()
