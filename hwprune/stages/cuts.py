"""Why each group of channels was cut as it was: its price, its worth, and the next step."""

from collections.abc import Mapping

from hwprune.report.schema import Cut
from hwprune.search.problem import Assignment
from hwprune.stages.losses import Losses
from hwprune.stages.outcome import Outcome
from hwprune.stages.run import Run


def cuts_section(run: Run, outcome: Outcome) -> tuple[Cut, ...]:
    """The groups that a search has cut, the dearest first; none where nothing was searched."""
    if outcome.losses is None or outcome.fit is None:
        return ()
    problem = outcome.losses.problem(run.profile, outcome.calibration)
    chosen, widths = outcome.fit.assignment, run.profile.space.widths
    names = [n for n, options in widths.items() if chosen[f"width:{n}"] < len(options) - 1]

    def microseconds(at: Assignment) -> float:
        return problem.latency_ns(at) / 1e3

    now = microseconds(chosen)
    found = []
    for name in names:
        options, at, variable = widths[name], chosen[f"width:{name}"], f"width:{name}"
        losses = [_loss(outcome.losses, option, run) for option in options]
        whole = microseconds({**chosen, variable: len(options) - 1})
        step = microseconds({**chosen, variable: at + 1})
        counts = [sum(option.values()) for option in options]
        found.append(
            Cut(
                name, counts[-1], counts[at],
                whole - now, losses[at] - losses[-1],
                counts[at + 1], step - now, losses[at] - losses[at + 1],
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda cut: -cut.whole_us))


def _loss(losses: Losses, option: Mapping[str, int], run: Run) -> float:
    """Estimated, of the groups of one variable at these widths."""
    full = run.job.coupling.full
    return sum(float(losses.rankings[g].error[full[g] - w]) for g, w in option.items())
