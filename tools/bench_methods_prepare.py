"""What all methods start from: plans that meet the budget on this machine, and their task."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwprune.compiler import CompileOptions
from hwprune.progress import progress_on
from hwprune.report.jsonio import to_json
from hwprune.search.decode import Decoder
from hwprune.search.documents import task_to_json
from hwprune.search.strategy import Task
from hwprune.stages.checkpoints import open_run
from hwprune.stages.choice import Choice
from hwprune.stages.fitting import Fit, planned_ns
from hwprune.stages.losses import Losses
from hwprune.stages.outcome import decide
from hwprune.stages.profiling import profile
from hwprune.stages.rewriting import rewrite, rewritten_job
from hwprune.stages.run import Run
from hwprune.stages.searching import planned_problem
from hwprune.stages.sources import Job, load_job
from hwprune.units import parse_budget


def prepare(args: argparse.Namespace) -> None:
    """Three plans for the budget on this machine."""
    for search in ("bo", "uniform"):
        options = CompileOptions(
            budget=parse_budget(args.budget), model=args.model, weights=args.weights,
            train_data=args.train_data, eval_data=args.eval_data, scale=args.scale, threads=1,
            search=search, out=args.work / search,
        )  # fmt: skip
        watch, job = progress_on(sys.stderr), load_job(options)
        with open_run(args.work / search, options) as checkpoints:
            with watch.stage("rewrite", total=1) as stage:
                job = rewrite(job, checkpoints, stage)
            with watch.stage("profile", total=1) as stage:
                run = Run(job, profile(job, checkpoints, stage), checkpoints, watch)
            outcome = decide(run)
        (args.work / f"{search}.json").write_text(outcome.plan.to_json())
        print(f"{search}: {outcome.plan.configuration.widths}")
        if search == "bo" and outcome.losses is not None and outcome.fit is not None:
            by_width(run, outcome.losses, outcome.fit, args.work)
    named = ("model", "weights", "train_data", "eval_data", "scale")
    told = {name: getattr(args, name) for name in named}
    document = {"options": told, "rewrites": job.choice.document(), "budget": args.budget}
    (args.work / "task.json").write_text(json.dumps(document, default=str))


def by_width(run: Run, losses: Losses, fit: Fit, work: Path) -> None:
    """The knapsack's plan that keeps all branches, so that all methods have channels to remove, and
    the problem that it answers, for methods that find widths by training.
    """
    limit = planned_ns(run)
    problem = planned_problem(run, losses, fit.calibration, limit)
    whole = {v.name: 1 for v in problem.variables if v.name.startswith("branch:")}
    decoder = Decoder(problem)
    fixed = decoder.decode(limit, fixed=whole).assignment
    plan = losses.plan(run.job, run.profile.configuration(fixed))
    (work / "widths.json").write_text(plan.to_json())
    print(f"widths: {plan.configuration.widths}")
    task = task_to_json(Task(problem, decoder, limit, 0), "dsa", 0.0)
    space = json.loads(to_json(run.profile.space))
    document = {"task": task, "space": space, "fixed": dict(fixed)}
    (work / "allocation.json").write_text(json.dumps(document))


def job_of(work: Path, seed: int, args: Mapping[str, Any]) -> Job:
    """The network and data of a prepared task, on whatever machine."""
    document = json.loads((work / "task.json").read_text())
    told = {k: v for k, v in document["options"].items() if v is not None}
    told |= {k: v for k, v in args.items() if v is not None}
    told["weights"] = Path(told["weights"]) if "weights" in told else None
    job = load_job(CompileOptions(budget=parse_budget("1x"), threads=1, seed=seed, **told))
    return rewritten_job(job, Choice.of(document["rewrites"]))
