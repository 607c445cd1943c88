"""What training minimises: how far the student's outputs are from the teacher's."""

import torch
import torch.nn.functional as F
from torch import Tensor

Outputs = tuple[Tensor, ...]


def as_tuple(result: Tensor | Outputs) -> Outputs:
    """The outputs of a twin, one or many, as a tuple."""
    return result if isinstance(result, tuple) else (result,)


def in_logits(student: Outputs, teacher: Outputs) -> tuple[Outputs, Outputs]:
    """Both, with logarithms for the outputs that are probabilities: their softmax is undone."""
    paired = [
        (_log(s), _log(t)) if _are_probabilities(t) else (s.float(), t.float())
        for s, t in zip(student, teacher, strict=True)
    ]
    return tuple(s for s, _ in paired), tuple(t for _, t in paired)


def distillation(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Mean over the outputs: KL for N x K logits, relative squared error for anything else.

    KL between softmax(z / T), times T^2 so that gradients do not shrink with the temperature
    (Hinton et al. 2015, section 2.1).
    """
    losses = [
        _kl(s, t, temperature) if t.ndim == 2 and t.shape[1] > 1 else _relative(s, t)
        for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(losses).mean()


def _kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    p = F.log_softmax(teacher / temperature, 1)
    q = F.log_softmax(student / temperature, 1)
    return F.kl_div(q, p, reduction="batchmean", log_target=True) * temperature**2


def _relative(student: Tensor, teacher: Tensor) -> Tensor:
    return F.mse_loss(student, teacher) / teacher.var().clamp_min(1e-12)


def _are_probabilities(x: Tensor) -> bool:
    if x.ndim != 2 or x.shape[1] < 2 or bool((x < 0).any()):
        return False
    return bool((x.float().sum(1) - 1).abs().max() < 1e-2)


def _log(x: Tensor) -> Tensor:
    return x.float().clamp_min(1e-7).log()
