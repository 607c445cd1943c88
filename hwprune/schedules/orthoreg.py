"""OrthoReg: filters are trained apart before some go (Lubana et al. 2020, arXiv 2009.05014).

With filters that are nearly orthonormal, what several cost together is what each costs, added up:
the criterion of the same name may then take many at once.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from hwprune.schedules.schedule import Schedule


def orthogonality_penalty(weights: Iterable[Tensor]) -> Tensor:
    """Sum over layers of omega_l |W W' - I|, entry by entry.

    omega_l is sqrt(min(shape)), divided by the sum of those of all layers.
    `weights` are filters x fan-in; where there are more filters than that, W'W is taken.
    """
    matrices = [w if w.shape[0] <= w.shape[1] else w.T for w in weights]
    shares = [math.sqrt(len(w)) for w in matrices]
    terms = [s * _apart(w) for s, w in zip(shares, matrices, strict=True)]
    return torch.stack(terms).sum() / sum(shares)


def _apart(w: Tensor) -> Tensor:
    return (w @ w.T - torch.eye(len(w), device=w.device)).abs().sum()


def orthogonality(w: Tensor) -> float:
    """|diag(W W')| / |W W'|, Frobenius norms: 1 where all filters are orthogonal."""
    gram = w @ w.T
    return float(gram.diagonal().norm() / gram.norm())


class OrthoReg(Schedule):
    """See the module.

    Args:
        strength: Of the penalty, beside the loss. The paper's is 0.01 (VGG-13).
    """

    criterion = "orthoreg"

    def __init__(self, strength: float = 0.01) -> None:
        self.strength = strength

    def begin(self) -> None:
        """See `Schedule`."""
        weights = [f.part for c in self.channels.values() for f in c.filters]
        self.weights = {id(p.parameter): p for p in weights}

    def loss(self) -> Tensor | None:
        """The penalty on the filters that make the channels."""
        if not self.weights:
            return None
        found = [p.parameter.movedim(p.axis, 0).flatten(1) for p in self.weights.values()]
        return self.strength * orthogonality_penalty(found)
