"""The Gaussian process over evaluated assignments, and which candidate it would try next."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from hwprune.search.factors import Floats


def most_promising(seen: Floats, losses: Floats, candidates: Floats, seed: int) -> int | None:
    """The candidate of largest LogEI (arXiv 2310.20708), or None where the fit fails.

    Matern 5/2 with length scales that grow with the dimension (arXiv 2402.02229).

    Args:
        seen: features in [0, 1] of what was evaluated (rows x variables).
        losses: of the rows of `seen`, lower is better.
        candidates: features of what might be next.
        seed: of the fit's restarts.
    """
    varies = np.ptp(np.vstack([seen, candidates]), axis=0) > 0
    if len(seen) < 2 or not varies.any() or not np.ptp(losses) > 0:
        return None
    with one_thread(seed):
        try:
            scores = _log_ei(seen[:, varies], utility(losses), candidates[:, varies])
        except (RuntimeError, ValueError, ArithmeticError):  # no fit, or no Cholesky factor
            return None
    return int(np.argmax(scores)) if np.all(np.isfinite(scores)) else None


def utility(losses: Floats) -> Floats:
    """Standardised -log(1 + excess over the best / median excess): outliers are tamed.

    Shifting or scaling the losses changes nothing; rounding hides what floats make of that.
    """
    finite = np.where(np.isfinite(losses), losses, np.max(losses[np.isfinite(losses)], initial=0))
    excess = finite - finite.min()
    scale = float(np.median(excess)) or float(excess.max()) or 1.0
    tamed = np.round(-np.log1p(excess / scale), 9)
    return np.asarray((tamed - tamed.mean()) / (tamed.std() or 1.0), np.float64)


def _log_ei(seen: Floats, utilities: Floats, candidates: Floats) -> Floats:
    import torch
    from botorch.acquisition import LogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from gpytorch.mlls import ExactMarginalLogLikelihood

    x, y = torch.from_numpy(seen), torch.from_numpy(utilities)[:, None]
    kernel = get_covar_module_with_dim_scaled_prior(x.shape[-1], use_rbf_kernel=False)
    model = SingleTaskGP(x, y, covar_module=kernel, outcome_transform=None)
    fit_gpytorch_mll(
        ExactMarginalLogLikelihood(model.likelihood, model),
        optimizer_kwargs={"options": {"maxiter": 60}},
    )
    with torch.no_grad():
        scores = LogExpectedImprovement(model, best_f=y.max())(
            torch.from_numpy(candidates)[:, None]
        )
    return np.asarray(scores.numpy(), np.float64)


@contextmanager
def one_thread(seed: int) -> Iterator[None]:
    """One torch thread (more are ten times slower on matrices this small), its own randomness."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            torch.manual_seed(seed)
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(before)
