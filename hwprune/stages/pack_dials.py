"""The codecs by name, each set up for a model."""

from itertools import count

import torch

from hwprune.codec.allocation import relative_steps
from hwprune.codec.dials import DeadZone
from hwprune.codec.moments import Moment, moments
from hwprune.codec.probe import Probe
from hwprune.codec.rate import Dial
from hwprune.codec.shac import Sharing
from hwprune.codec.skeleton import holes
from hwprune.codec.surp import Surp
from hwprune.codec.weights import Weight, weights
from hwprune.export.few_levels import FewLevels
from hwprune.progress import Progress
from hwprune.quantize.gptq import Inverse, inverse
from hwprune.stages.pack_options import LEVELS
from hwprune.stages.pack_subject import CALIBRATION, Subject

_PROBE = 64  # samples on which the effect of each weight is measured


def dial_of(what: Subject, progress: Progress) -> Dial:
    """The codec that was chosen, its steps allocated by what each weight does to the outputs."""
    found, codec = weights(what.model, what.data, holes(what.data)), what.options.chosen
    with progress.stage("weights", total=len(found) + 1) as stage:
        ticks = count(1)

        def tick() -> None:
            stage.update(next(ticks))

        probe = Probe(what.model, found, what.samples(CALIBRATION), what.options.threads)
        second = {} if codec == "surp" else moments(probe, what.options.seed)
        tick()
        if codec in ("surp", "ham", "shac"):
            steps = relative_steps(found, probe.of(_PROBE), {}, tick)
            return _unrounded(what, found, codec, steps, second)
        known = inverses(second)
        steps = relative_steps(found, probe.of(_PROBE), known, tick)
    if codec == LEVELS:
        return FewLevels(what.model, found, steps, known)
    return DeadZone(what.data, found, steps, known)


def _unrounded(
    what: Subject,
    found: list[Weight],
    codec: str,
    steps: dict[int, float],
    second: dict[int, Moment],
) -> Dial:
    """Codecs that put every weight where it is nearest."""
    if codec == "surp":
        return Surp(what.data, found, scales=steps)
    return Sharing(what.data, found, codec, moments=second, steps=steps)


def inverses(second: dict[int, Moment]) -> dict[int, Inverse]:
    """What rounding for the output needs, by weight; the moments are used up."""
    return {index: inverse(torch.from_numpy(second.pop(index))) for index in list(second)}
