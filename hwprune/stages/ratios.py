"""The search by training: keep ratios under the planned budget, which later rounds decode again."""

from dataclasses import replace
from math import ceil

from hwprune.differentiable.allocation import Allocation
from hwprune.differentiable.dsa import learn_ratios
from hwprune.frontend.dataset import DataSet
from hwprune.latency.calibrate import Calibration
from hwprune.progress import in_fractions
from hwprune.search.decode import Decoder
from hwprune.stages.losses import Losses
from hwprune.stages.options import CompileOptions
from hwprune.stages.run import Run
from hwprune.stages.searching import planned_problem
from hwprune.stages.training import training_of
from hwprune.train.feed import steps_of_an_epoch
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots

_LEAST_STEPS = 120  # fewer tell nothing about any layer


def with_trained_ratios(
    run: Run, losses: Losses, calibration: Calibration, budget_ns: float
) -> Losses:
    """Losses that say how far widths are from what was trained under `budget_ns`.

    Channels go in the criterion's order; kernels, branches and bits are those of the knapsack. A
    run that was killed goes on with the training; later corrections of the table do not train.

    Raises InfeasibleError where not even the narrowest widths keep the bounds.
    """
    job, space = run.job, run.profile.space
    problem = planned_problem(run, losses, calibration, budget_ns)
    fixed = Decoder(problem).decode(budget_ns).assignment
    allocation = Allocation(space, problem, budget_ns, fixed)
    inputs = f"{problem.digest()} {budget_ns!r} {sorted(fixed.items())}"
    with run.progress.stage("train ratios", total=1) as stage:
        learned = learn_ratios(
            job.graph,
            job.coupling,
            allocation,
            job.splits.train,
            recipe_of(job.options, job.splits.train),
            job.options.seed,
            None,
            losses.rankings,
            in_fractions(stage),
            Snapshots(run.work / "ratios.state", inputs),
        )
    aim = allocation.aim(job.coupling, learned.ratios)
    return replace(losses, aim=aim, trained=learned.graph)


def recipe_of(options: CompileOptions, data: DataSet) -> Recipe:
    """How ratios are trained: as long as the recovery is, and one epoch at least, or as many as it
    takes for a few steps.
    """
    training = training_of(options)
    least = ceil(_LEAST_STEPS / max(1, steps_of_an_epoch(data)))
    if training is None:
        return Recipe(least)
    return replace(training.recipe, epochs=max(least, training.recipe.epochs))
