"""The codecs by name, each set up for a model."""

from collections.abc import Sequence
from itertools import count

import onnx
import torch

from hwprune.codec.allocation import relative_steps
from hwprune.codec.dials import DeadZone
from hwprune.codec.moments import Moment, moments
from hwprune.codec.probe import Probe
from hwprune.codec.products import places
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

# So many multiplications, about a minute of a core, and so many samples at least:
_EFFECTS, _MOMENTS = (1e12, 4), (3e11, 64)


def dial_of(what: Subject, progress: Progress) -> Dial:
    """The codec that was chosen, its steps allocated by what each weight does to the outputs."""
    codec = what.options.chosen
    probe = probed(what)
    found = probe.weights
    with progress.stage("weights", total=len(found) + 1) as stage:
        ticks = count(1)

        def tick() -> None:
            stage.update(next(ticks))

        work = max(1, probe.multiplications)
        some = probe.on(what.samples(_count(_EFFECTS, work * (1 + len(found)))))
        many = probe.on(what.samples(_count(_MOMENTS, work)))
        second = {} if codec == "surp" else moments(many, what.options.seed)
        tick()
        if codec in ("surp", "ham", "shac"):
            return _unrounded(what, found, codec, relative_steps(found, some, {}, tick), second)
        known = inverses(found, second)
        steps = relative_steps(found, some, known, tick)
    if codec == LEVELS:
        return FewLevels(what.data, found, steps, known)
    return DeadZone(what.data, found, steps, known)


def probed(what: Subject, samples: int = 1) -> Probe:
    """Of its weights, on samples of its data."""
    model = onnx.load_from_string(what.data)
    found = weights(model, what.data, holes(what.data))
    return Probe(model, found, what.samples(samples), what.options.threads)


def _count(limits: tuple[float, int], work: int) -> int:
    """Samples that may be looked at, if each takes so many multiplications."""
    return min(max(int(limits[0] / work), limits[1]), CALIBRATION)


def _unrounded(
    what: Subject,
    found: Sequence[Weight],
    codec: str,
    steps: dict[int, float],
    second: dict[int, Moment],
) -> Dial:
    """Codecs that put every weight where it is nearest."""
    if codec == "surp":
        return Surp(what.data, found, scales=steps)
    return Sharing(what.data, found, codec, moments=second, steps=steps)


def inverses(found: Sequence[Weight], second: dict[int, Moment]) -> dict[int, Inverse]:
    """What rounding for the output needs, by weight; the moments are used up."""
    return {
        weight.index: inverse(torch.from_numpy(second.pop(weight.index)), places(weight)).half()
        for weight in found
        if weight.index in second
    }
