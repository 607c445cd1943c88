"""How good the written file is, with labels or without, on data that nothing before has seen."""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hwprune.network.run import is_classifier, kl
from hwprune.report.schema import Quality
from hwprune.stages.sources import Job
from hwprune.verify.outputs import file_outputs

Outputs = Sequence[torch.Tensor]
_SAMPLES = 2048


def report_quality(
    reference: Outputs, candidate: Outputs, labels: NDArray[np.int64] | None, known: bool
) -> Quality:
    """The report's figures; `known` is False where the inputs were synthetic."""
    count = len(reference[0])
    if not known:
        return Quality("unknown", None, None, count, "synthetic")
    if not is_classifier(reference):
        noise = {
            str(i): _sqnr_db(r, c)
            for i, (r, c) in enumerate(zip(reference, candidate, strict=True))
        }
        return Quality("sqnr_db", None, min(noise.values()), count, outputs=noise)
    before, after = reference[0].argmax(1), candidate[0].argmax(1)
    divergence = kl(reference[0], candidate[0])
    if labels is None:
        return Quality(
            "agreement", 1.0, float((before == after).float().mean()), count, kl=divergence
        )
    truth = torch.from_numpy(labels)
    top1 = [float((answer == truth).float().mean()) for answer in (before, after)]
    return Quality("top1", top1[0], top1[1], count, kl=divergence)


def drop_points(quality: Quality) -> float | None:
    """How many points of top-1 or agreement were lost (None where there is no such figure)."""
    if quality.original is None or quality.compiled is None:
        return None
    return 100 * (quality.original - quality.compiled)


def lost_points(job: Job, work: Path, name: str) -> float:
    """Points of top-1 (of agreement, without labels) that a file in the run folder loses to the
    original on the search split.

    One standard error is added: another split should not turn out worse.
    """
    data = job.splits.search.take(_SAMPLES, job.options.seed + 1)
    x = data.inputs(slice(0, len(data)))
    before, after = (
        file_outputs(work / file, x, job.threads)[0].argmax(1).numpy()
        for file in ("original.onnx", name)
    )
    lost = lost_answers(before, after, data.y)
    return float(100 * (lost.mean() + lost.std() / sqrt(len(lost))))


def lost_answers(
    before: NDArray[np.int64], after: NDArray[np.int64], labels: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Per sample 1 where the answer became wrong (without labels: another), -1 where right."""
    if labels is None:
        return np.asarray(before != after, np.float64)
    right, still = ((answers == labels).astype(np.float64) for answers in (before, after))
    found: NDArray[np.float64] = right - still
    return found


def _noise_to_signal(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    noise = (reference - candidate).double().square().sum()
    return float(noise / reference.double().square().sum().clamp_min(1e-30))


def _sqnr_db(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    return float(-10 * np.log10(max(_noise_to_signal(reference, candidate), 1e-12)))
