"""What the evaluations say about the estimates: which layers matter more than was thought.

The measured loss is taken as b + s * sum_k w_k phi_k(z), where phi_k is what the estimate says
about knob k, with w_k ~ N(1, 1) before any evaluation. Multipliers drawn from the posterior decode
to the best assignment for one plausible truth each (Thompson sampling, in the decoder's own terms).
"""

import numpy as np

from hwprune.search.factors import Floats

_NOISES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # variance of what is not additive, tried by evidence
_TRUSTED = 0.7  # share of the evaluations, best first: far from them nothing is additive


def draw_multipliers(
    contributions: Floats, losses: Floats, count: int, rng: np.random.Generator
) -> Floats:
    """Log2 multipliers in [-2, 2] (count x knobs) from the posterior.

    Args:
        contributions: estimated loss per knob of each evaluated assignment (n x knobs).
        losses: measured (n).
        count: rows to draw; the first is the posterior mean.
        rng: source of the draws.
    """
    best = np.argsort(losses, kind="stable")[: max(4, round(_TRUSTED * len(losses)))]
    features, residual = _relative(contributions[best], losses[best])
    gram = features @ features.T
    noise = min(_NOISES, key=lambda v: _surprise(gram, residual, v * _scale(gram)))
    covariance = gram + noise * _scale(gram) * np.eye(len(gram))
    prior = rng.standard_normal((count, features.shape[1]))
    errors = rng.standard_normal((count, len(gram))) * np.sqrt(noise * _scale(gram))
    prior[0], errors[0] = 0.0, 0.0
    # Matheron's rule: a prior draw, corrected by what it misses of the evaluations
    missed = residual - prior @ features.T - errors
    weights = 1.0 + prior + np.linalg.solve(covariance, missed.T).T @ features
    return np.asarray(np.log2(np.clip(weights, 0.25, 4.0)), np.float64)


def _relative(contributions: Floats, losses: Floats) -> tuple[Floats, Floats]:
    """Centred contributions in units of the loss, and what the plain estimate misses of it."""
    features = contributions - contributions.mean(0)
    losses = losses - losses.mean()
    total = features.sum(1)
    spread = float(total @ total)
    scale = float(total @ losses) / spread if spread > 0 else 0.0
    if scale <= 0:  # the estimate says nothing, or the opposite: keep its size only
        scale = float(np.sqrt((losses @ losses) / spread)) if spread > 0 else 1.0
    return features * scale, losses - total * scale


def _surprise(gram: Floats, residual: Floats, noise: float) -> float:
    """Negative log evidence, up to a constant."""
    covariance = gram + noise * np.eye(len(gram))
    _, log_determinant = np.linalg.slogdet(covariance)
    return float(log_determinant + residual @ np.linalg.solve(covariance, residual))


def _scale(gram: Floats) -> float:
    return max(float(np.trace(gram)) / len(gram), 1e-30)
