"""Which channels a keep ratio keeps: probabilities by importance, and the gradient of the ratio.

Ning et al. 2020 (DSA: More Efficient Budgeted Pruning via Differentiable Sparsity Allocation, ECCV,
arXiv 2004.02164, section 4.1). With the importance b_i of channel i, it is kept with probability

    p_i = 1 / (1 + t_i),  t_i = (beta1 / b_i) ** beta2,

where beta2 says how sharp the boundary is and beta1 is such that the mean of p_i is the ratio. The
paper adds 0.01 to every p_i, so that no channel is ever quite dead; the mean is another one then
than what is paid for. It is left out here: a soft boundary at the start gives every channel its
chance.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_STEPS = 60  # halvings: what is left of the bracket is rounding
_REACH = 30.0  # beta2 * log(beta1 / b) where p is 0 or 1 but for 1e-13
_TINY = 1e-6  # of the mean importance: below, channels are as unimportant as can be


def log_importance(importance: Tensor, inside: Tensor) -> Tensor:
    """Logarithms, in units of their own standard deviation: one sharpness suits all groups.

    Args:
        importance: `groups x channels`, not negative.
        inside: `groups x channels`, False where a group has no such channel.
    """
    b = torch.where(inside, importance.double(), 0.0)
    count = inside.sum(1, keepdim=True)
    mean = b.sum(1, keepdim=True) / count
    logs = torch.where(mean > 0, b / mean, 1.0).clamp_min(_TINY).log()
    centred = torch.where(inside, logs - _mean(logs, inside), 0.0)
    spread = _mean(centred.square(), inside).sqrt()
    return torch.where(spread > _TINY, centred / spread.clamp_min(_TINY), centred)


def keep_probabilities(ratios: Tensor, logs: Tensor, inside: Tensor, sharpness: float) -> Tensor:
    """`groups x channels`: how likely each channel is kept; 0 where there is none.

    Differentiable in the ratios: dp_i/dratio = n f_i / sum(f), f_i = t_i / (1 + t_i)^2, for n
    channels (implicit differentiation of mean p = ratio).

    Args:
        ratios: `groups`, in (0, 1).
        logs: `groups x channels`, logarithms of importances.
        inside: `groups x channels`, False where a group has no such channel.
        sharpness: beta2.
    """
    found: Tensor = _Keep.apply(ratios, logs, inside, sharpness)  # type: ignore[no-untyped-call]
    return found


def sample(probabilities: Tensor, inside: Tensor, generator: torch.Generator) -> Tensor:
    """Gates of 0 and 1, at least one 1 in each row; gradients pass as if they were p itself."""
    p = probabilities.detach()
    drawn = (torch.rand(p.shape, dtype=p.dtype, generator=generator) < p) & inside
    likeliest = F.one_hot(p.argmax(1), p.shape[1]).bool()
    gates = torch.where(drawn.any(1, keepdim=True), drawn, likeliest)
    return probabilities + (gates.double() - p)


def most_important(counts: Tensor, logs: Tensor, inside: Tensor) -> Tensor:
    """Gates of 1 for the most important channels of each row: `counts`, rounded, at least one."""
    counts = counts.detach().round().clamp_min(1)
    known = torch.where(inside, logs, -torch.inf)
    rank = known.argsort(stable=True, dim=1, descending=True).argsort(dim=1)
    return (rank < counts[:, None]).double()


class _Keep(torch.autograd.Function):
    """beta1 by bisection of its logarithm, for all groups at once; its gradient is implicit."""

    @staticmethod
    def forward(ctx: Any, ratios: Tensor, logs: Tensor, inside: Tensor, sharpness: float) -> Tensor:
        outside = torch.where(inside, logs, torch.inf), torch.where(inside, logs, -torch.inf)
        low = outside[0].amin(1, keepdim=True) - _REACH / sharpness
        high = outside[1].amax(1, keepdim=True) + _REACH / sharpness
        for _ in range(_STEPS):
            middle = (low + high) / 2
            p = torch.sigmoid(sharpness * (logs - middle))
            too_many = _mean(p, inside) > ratios.double()[:, None]
            low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
        exponent = sharpness * ((low + high) / 2 - logs)  # log t
        ctx.save_for_backward(exponent, inside)
        return torch.where(inside, torch.sigmoid(-exponent), 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        exponent, inside = ctx.saved_tensors
        log_f = exponent - 2 * F.softplus(exponent)  # stays finite where f itself is 0
        shares = torch.where(inside, log_f, -torch.inf).softmax(1)
        slopes = inside.sum(1, keepdim=True) * shares
        return (gradients[0] * slopes).sum(1), None, None, None


def _mean(values: Tensor, inside: Tensor) -> Tensor:
    total = torch.where(inside, values, 0.0).sum(1, keepdim=True)
    return total / inside.sum(1, keepdim=True)
