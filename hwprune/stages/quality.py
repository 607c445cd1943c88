"""How good the written file is, with labels or without, on data that nothing before has seen."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hwprune.report.schema import Quality

Outputs = Sequence[torch.Tensor]


def is_classifier(outputs: Outputs) -> bool:
    """One output of N x classes."""
    return len(outputs) == 1 and outputs[0].ndim == 2 and outputs[0].shape[1] > 1


def kl_nats(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    """Mean KL(reference || candidate) of two `N x classes` outputs, logits or probabilities."""
    p, q = _log_probabilities(reference), _log_probabilities(candidate)
    return float((p.exp() * (p - q)).sum(dim=1).mean())


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
    kl = kl_nats(reference[0], candidate[0])
    if labels is None:
        return Quality("agreement", 1.0, float((before == after).float().mean()), count, kl=kl)
    truth = torch.from_numpy(labels)
    top1 = [float((answer == truth).float().mean()) for answer in (before, after)]
    return Quality("top1", top1[0], top1[1], count, kl=kl)


def drop_points(quality: Quality) -> float | None:
    """How many points of top-1 or agreement were lost (None where there is no such figure)."""
    if quality.original is None or quality.compiled is None:
        return None
    return 100 * (quality.original - quality.compiled)


def _log_probabilities(outputs: torch.Tensor) -> torch.Tensor:
    """Log-softmax of logits; outputs that are probabilities already are only normalised."""
    wide = outputs.double()
    sums_to_one = bool((wide.min() >= 0) & ((wide.sum(1) - 1).abs().max() < 1e-3))
    if sums_to_one:
        return (wide.clamp_min(1e-12) / wide.clamp_min(1e-12).sum(1, keepdim=True)).log()
    return wide.log_softmax(dim=1)


def _noise_to_signal(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    noise = (reference - candidate).double().square().sum()
    return float(noise / reference.double().square().sum().clamp_min(1e-30))


def _sqnr_db(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    return float(-10 * np.log10(max(_noise_to_signal(reference, candidate), 1e-12)))
