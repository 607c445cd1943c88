"""The search stage: which widths, branches and kernels keep the most quality in the time."""

from dataclasses import replace

from hwprune.latency.calibrate import Calibration
from hwprune.progress import Stage
from hwprune.pruning.reconstruct import THOROUGH
from hwprune.registry import TRAINED
from hwprune.search.decode import Decoder
from hwprune.search.problem import Assignment, Problem
from hwprune.search.strategy import Evaluated
from hwprune.search.study import SearchResult, search
from hwprune.stages.joining import shared, standing
from hwprune.stages.kernels import seen_whole
from hwprune.stages.losses import Losses, candidate_loss, make_evaluator
from hwprune.stages.run import Run

ENOUGH = 5e-4  # a loss (nats) below which no answer changes: there is nothing left to gain
_WARM = 4  # of the best of an earlier search


def run_search(
    run: Run,
    losses: Losses,
    calibration: Calibration,
    budget_ns: float,
    before: SearchResult | None,
    stage: Stage,
) -> SearchResult:
    """Searches under `budget_ns`.

    After an earlier search `before`, under another calibration, it starts from the best of that
    and spends a quarter of the effort; losses are known by assignment and not measured again.
    """
    options = run.job.options
    evaluations = options.evaluations or options.limits.evaluations
    share = 1.0 if before is None else 0.25
    found = sorted(before.evaluated, key=lambda e: e.loss)[:_WARM] if before else []

    def report(done: int, total: int, best: Evaluated | None) -> None:
        stage.update(done / max(1, total), standing(done, total, best))

    return search(
        planned_problem(run, losses, calibration, budget_ns),
        budget_ns,
        candidate_loss(run.job, losses, run.profile.configuration),
        "knapsack" if options.search in TRAINED else options.search,
        max(1, round(evaluations * share)),
        options.seed,
        options.storage or run.work / "trials.db",
        report,
        options.limits.search_seconds * share,
        [e.multipliers for e in found if e.multipliers],
        ENOUGH,
        shared(run, losses),
    )


def planned_problem(
    run: Run, losses: Losses, calibration: Calibration, budget_ns: float
) -> Problem:
    """The search problem, with kernels priced by whole networks near what fits the budget.

    Raises InfeasibleError if nothing does.
    """
    problem = losses.problem(run.profile, calibration)
    near = Decoder(problem).decode(budget_ns).assignment
    return seen_whole(run.profile, calibration, problem, near)


def finalists(run: Run, losses: Losses, result: SearchResult) -> list[tuple[Assignment, float]]:
    """The best few and the plain knapsack by their loss after a thorough repair, least first.

    The quick repair of a search sees few samples, and overfits some candidates more than others.
    """
    answers = [e for e in result.evaluated if not e.step]
    ranked = sorted(answers, key=lambda e: e.loss)[: run.job.options.limits.finalists]
    if answers[0] not in ranked:
        ranked.append(answers[0])
    if len(ranked) == 1 or result.best.loss <= ENOUGH:
        return [(result.best.assignment, result.best.loss)]
    count = 4 * len(losses.evaluator.search_x[0])
    thorough = replace(losses, evaluator=make_evaluator(run.job, count, THOROUGH))
    judge = candidate_loss(run.job, thorough, run.profile.configuration)
    judged = [(e.assignment, judge(e.assignment)) for e in ranked]
    return sorted(judged, key=lambda found: found[1])
