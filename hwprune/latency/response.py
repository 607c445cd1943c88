"""Time as a function of channel counts, from few measured points, with its own uncertainty.

A product of counts is what a kernel computes, so time is fitted as a nonnegative combination of
the products of its counts (1, a, b, ab); what that misses varies slowly from octave to octave and
is interpolated by a Gaussian process on the logarithms (Rasmussen and Williams 2006, eq. 2.25-26).
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

_OCTAVES = 1.0  # over which what the products miss may change
ROW_NOISE = 0.015  # relative, of a measured row
_LEAST = 0.02  # relative standard deviation believed of what the products miss

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Response:
    """A fitted kernel family; all arrays float64."""

    weights: Array  # of the products of counts
    at: Array  # measured points, octaves (points x counts)
    solved: Array  # covariance^-1 @ residuals
    inverse: Array  # covariance^-1
    sigma: float
    doubt: float  # by how much more than expected each point missed what the others say of it
    least: float  # nanoseconds: nothing is believed to be faster

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Nanoseconds and their relative standard deviation, of `n x counts` points."""
        base = np.maximum(products(points) @ self.weights, self.least)
        near = self.sigma**2 * _likeness(octaves(points), self.at)
        left = self.sigma**2 - np.einsum("ij,jk,ik->i", near, self.inverse, near)
        spread = self.doubt * np.sqrt(np.maximum(left, 0.0) + ROW_NOISE**2)
        return base * np.exp(near @ self.solved), spread


def fit(points: Array, ns: Array) -> Response:
    """From measured `n x counts` points and their nanoseconds (n >= 1)."""
    terms = products(points)
    weights, _ = nnls(terms / ns[:, None], np.ones(len(ns)))
    least = 0.25 * float(ns.min())
    missed = np.log(ns / np.maximum(terms @ weights, least))
    sigma = float(max(np.sqrt(np.mean(missed**2)), _LEAST))
    at = octaves(points)
    covariance = sigma**2 * _likeness(at, at) + ROW_NOISE**2 * np.eye(len(ns))
    inverse: Array = np.asarray(np.linalg.inv(covariance), np.float64)
    solved = inverse @ missed
    # Each point told by the others: Rasmussen and Williams 2006, eq. 5.12.
    doubt = float(max(1.0, np.sqrt(np.mean(solved**2 / np.diag(inverse)))))
    return Response(weights, at, solved, inverse, sigma, doubt, least)


def products(points: Array) -> Array:
    """1, every count, and the product of every subset of them: `n x 2^counts`."""
    count = points.shape[1]
    subsets = [s for size in range(count + 1) for s in combinations(range(count), size)]
    return np.stack([np.prod(points[:, list(s)], axis=1) for s in subsets], axis=1)


def octaves(points: Array) -> Array:
    """Binary logarithms, steady down to no channel at all."""
    return np.log2(np.maximum(points, 0.0) + 1.0)


def _likeness(a: Array, b: Array) -> Array:
    apart = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    found: Array = np.exp(-0.5 * apart / _OCTAVES**2)
    return found
