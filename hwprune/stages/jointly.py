"""`--search joint`: widths and bits by gradients, in place of the table's search and its loop.

The bound it keeps by itself is the file's; the time of what it finds is judged, not searched for.
"""

from collections.abc import Mapping, Sequence

from hwprune.differentiable.choosing import JointOptions
from hwprune.differentiable.joint import carried_out, search
from hwprune.errors import UnsupportedModelError, UsageError
from hwprune.export.lower import lower
from hwprune.network.operators import untranslated
from hwprune.progress import in_fractions
from hwprune.report.schema import Search
from hwprune.search.decode import Decoder
from hwprune.stages.building import Built
from hwprune.stages.finishing import time_file
from hwprune.stages.front import Settled
from hwprune.stages.kernels import time_only
from hwprune.stages.options import JOINT
from hwprune.stages.outcome import Outcome
from hwprune.stages.run import Run
from hwprune.stages.trial_plans import quantised_everywhere
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe


def settle_jointly(run: Run) -> Settled:
    """Searches, trains on, and times the file once.

    Raises:
        UsageError: Without data there is nothing to train on.
        UnsupportedModelError: Some of the network cannot be trained.
        InfeasibleError: No choice takes as few bytes as --max-size allows.
    """
    job, options = run.job, joint_options(run)
    if not job.known:
        raise UsageError(f"--search {JOINT} trains the network, and has no data", "give --data")
    if alone := untranslated(job.graph):
        raise UnsupportedModelError(
            f"{next(iter(alone.values()))}; without one the network cannot be trained",
            f"leave --search {JOINT} out",
        )
    most, data, seed = job.options.max_size or 0, job.splits.train, job.options.seed
    kernels = quantised_everywhere(run.profile.estimator.network).kernels
    x = job.calibration()
    with run.progress.stage("search", total=1) as stage:
        found = search(
            job.graph, job.coupling, job.capabilities, data, x, kernels, most, options, seed,
            in_fractions(stage),
        )  # fmt: skip
    with run.progress.stage("quantize"):
        quantized = carried_out(found, job.coupling, job.capabilities, x)
    with run.progress.stage("qat", total=1) as stage:
        recipe = Recipe(options.epochs_for(data))
        quantized = qat(quantized, job.graph, data, recipe, seed, in_fractions(stage))
    model = lower(quantized.graph, found.plan.kernels, quantized.encodings, job.capabilities)
    built = Built(found.plan, quantized.graph, quantized.module, model)
    least = Decoder(time_only(run.profile)).fastest().latency_ns
    outcome = Outcome(found.plan, run.profile.calibration, Search(JOINT, 0), least)
    return outcome, built, time_file(run, built)


def joint_options(run: Run) -> JointOptions:
    """Widths are those that the table's search would be offered."""
    widths: dict[str, set[int]] = {}
    for offered in run.profile.space.widths.values():
        for option in offered:
            for group, width in option.items():
                widths.setdefault(group, set()).add(width)
    legal: Mapping[str, Sequence[int]] = {g: sorted(found) for g, found in widths.items()}
    return JointOptions(run.job.options.training_epochs or None, widths=legal)
