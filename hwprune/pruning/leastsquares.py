"""Ridge regression around given weights."""

import torch
from torch import Tensor

HELD_BACK = 0.1  # share of the rows that only judge


def refit(
    rows: Tensor, target: Tensor, weight: Tensor, bias: Tensor | None, ridge: float
) -> tuple[Tensor, Tensor | None] | None:
    """Weights that map `rows` to `target`, as near to the given ones as the ridge asks.

    Minimises |X W' + b - Y|^2 / N + ridge * mean(diag(X'X / N)) * |W - W0|^2 per group.

    Args:
        rows: X, groups x N x columns.
        target: Y, groups x N x outputs.
        weight: W0, groups x outputs x columns.
        bias: b0, groups x outputs; None leaves the product without one.
        ridge: relative to the mean second moment of the columns.

    Returns:
        Weight and bias of the same shapes, or None when they are no better on held-back rows.
    """
    residual = target - rows @ weight.mT - (0 if bias is None else bias.unsqueeze(1))
    judge = max(1, int(HELD_BACK * rows.shape[1]))
    delta, shift = _solve(rows[:, judge:], residual[:, judge:], bias is not None, ridge)
    after = residual[:, :judge] - rows[:, :judge] @ delta.mT - shift
    if not after.square().sum() < residual[:, :judge].square().sum():
        return None
    return weight + delta, None if bias is None else bias + shift.squeeze(1)


def _solve(x: Tensor, y: Tensor, intercept: bool, ridge: float) -> tuple[Tensor, Tensor]:
    """Weight change (groups x outputs x columns) and bias change (groups x 1 x outputs)."""
    mean_x, mean_y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    if not intercept:
        mean_x, mean_y = torch.zeros_like(mean_x), torch.zeros_like(mean_y)
    x, y = x - mean_x, y - mean_y
    gram = (x.mT @ x / x.shape[1]).double()
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    scale = diagonal.mean(-1, keepdim=True).clamp_min(1e-12)
    diagonal.add_(ridge * scale)
    factor, failed = torch.linalg.cholesky_ex(gram)
    delta = torch.cholesky_solve((x.mT @ y / x.shape[1]).double(), factor).mT.float()
    if failed.any():
        delta = torch.zeros_like(delta)
    shift = mean_y - mean_x @ delta.mT
    return delta, shift
