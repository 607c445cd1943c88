"""Filters that look elsewhere: a loss that grows with what they share."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hwprune.train.hooks import Hook


def soft_orthogonality(
    weights: Iterable[Tensor], beta: float = 1e-5, by_fan: bool = False
) -> Tensor:
    """Beta * sum over layers of |W^T W - I|_F, where the filters are the columns of W.

    Bansal, Chen and Wang 2018 (arXiv 1810.09102, soft orthogonality, without the square), as
    Guerra et al. 2020 (arXiv 2002.00523) train networks of few bits, with their beta.

    Args:
        weights: Of the layers, `outputs x ...`; one filter each output.
        beta: What the sum is multiplied by.
        by_fan: Divides W^T W by the length of a filter, which is 1 then where weights are signs.

    Returns:
        A scalar with gradients; 0 for no layers.
    """
    excess = [_excess(weight.flatten(1), by_fan) for weight in weights]
    return beta * torch.stack(excess).sum() if excess else torch.zeros(())


def _excess(rows: Tensor, by_fan: bool) -> Tensor:
    """What the products of all pairs of rows have beyond the identity."""
    gram = rows @ rows.T / (rows.shape[1] if by_fan else 1)
    identity = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    norm: Tensor = torch.linalg.matrix_norm(gram - identity)
    return norm


class SoftOrthogonality(Hook):
    """Adds it to the loss, over the latent weights of all quantised layers of a network."""

    def __init__(self, module: nn.Module, beta: float = 1e-5) -> None:
        layers = (m for m in module.modules() if hasattr(m, "weight_kind"))
        self.weights: list[Tensor] = [m.get_parameter("weight") for m in layers]
        self.beta = beta

    def loss(self) -> Tensor:
        """See `Hook`."""
        return soft_orthogonality(self.weights, self.beta)
