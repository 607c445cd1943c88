"""`--search joint`: widths and bits by gradients, in place of the table's search and its loop.

The bound it keeps by itself is the file's; the time of what it finds is judged, not searched for.
"""

from collections.abc import Mapping, Sequence

from hwprune.differentiable.choosing import JointOptions
from hwprune.differentiable.joint import Found, carried_out, search
from hwprune.export.lower import lower
from hwprune.latency.space import SearchSpace
from hwprune.progress import in_fractions
from hwprune.report.schema import Search
from hwprune.search.decode import Decoder
from hwprune.stages.building import Built, trained_on
from hwprune.stages.finishing import time_file
from hwprune.stages.front import Settled
from hwprune.stages.kernels import time_only
from hwprune.stages.options import JOINT
from hwprune.stages.outcome import Outcome
from hwprune.stages.run import Run
from hwprune.stages.training import snapshots, training_of
from hwprune.stages.trial_plans import quantised_everywhere
from hwprune.train.qat import qat


def settle_jointly(run: Run) -> Settled:
    """Searches, trains on, and times the file once.

    Raises InfeasibleError where no choice takes as few bytes as --max-size allows.
    """
    options = joint_options(run)
    found = _searched(run, options)
    built = _built(run, found, options)
    least = Decoder(time_only(run.profile)).fastest().latency_ns
    outcome = Outcome(found.plan, run.profile.calibration, Search(JOINT, 0), least)
    return outcome, built, time_file(run, built)


def joint_options(run: Run) -> JointOptions:
    """Widths are those that the table's search would be offered."""
    training, epochs = training_of(run.job.options), run.job.options.training_epochs
    minutes = None if training is None else training.recipe.minutes
    return JointOptions(epochs or None, minutes, widths=legal_widths(run.profile.space))


def legal_widths(space: SearchSpace) -> Mapping[str, Sequence[int]]:
    """Of every group that a space offers widths for, ascending."""
    widths: dict[str, set[int]] = {}
    for offered in space.widths.values():
        for option in offered:
            for group, width in option.items():
                widths.setdefault(group, set()).add(width)
    return {group: sorted(found) for group, found in widths.items()}


def _searched(run: Run, options: JointOptions) -> Found:
    job = run.job
    kernels = quantised_everywhere(run.profile.estimator.network).kernels
    kept = snapshots(run.work, "joint", dict(kernels), options.widths, job.choice.document())
    with run.progress.stage("search", total=1) as stage:
        return search(
            job.graph, job.coupling, job.capabilities, job.splits.train, job.calibration(), kernels,
            job.options.max_size or 0, options, job.options.seed, in_fractions(stage), kept,
        )  # fmt: skip


def _built(run: Run, found: Found, options: JointOptions) -> Built:
    job, plan = run.job, found.plan
    with run.progress.stage("quantize"):
        quantized = carried_out(found, job.coupling, job.capabilities, job.calibration())
    kept = snapshots(run.work, "qat", plan.to_json())
    recipe = options.recipe(job.splits.train)
    quantized = trained_on(qat, quantized, job, recipe, kept, run.progress)
    model = lower(quantized.graph, plan.kernels, quantized.encodings, job.capabilities)
    return Built(plan, quantized.graph, quantized.module, model)
