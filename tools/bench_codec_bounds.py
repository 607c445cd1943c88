"""What no code of a Laplacian source can beat: R(D) of the absolute and of the squared error."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def absolute_bound(distortion: float) -> float:
    """Bits per weight of mean magnitude 1, for a mean absolute error (Isik et al. 2022, eq. 4)."""
    return max(0.0, float(np.log2(1 / distortion)))


class SquaredBound:
    """Bits per weight of mean magnitude 1 for a mean square error, by Blahut and Arimoto."""

    def __init__(self, cells: int = 1201, slopes: int = 28, rounds: int = 300) -> None:
        x = np.linspace(-15, 15, cells)
        source = np.exp(-np.abs(x))
        source /= source.sum()
        errors = np.square(x[:, None] - x[None, :])
        found = [_point(source, errors, s, rounds) for s in np.geomspace(0.35, 150, slopes)]
        self._distortions, self._rates = np.array(found).T[:, ::-1]

    def __call__(self, distortion: float) -> float:
        """Raises ValueError outside what was computed."""
        low, high = self._distortions[0], self._distortions[-1]
        if not low <= distortion <= high:
            return float("nan")
        return float(np.interp(np.log(distortion), np.log(self._distortions), self._rates))


def _point(source: Array, errors: Array, slope: float, rounds: int) -> tuple[float, float]:
    """(D, R) where the curve has this slope (Cover and Thomas, section 10.8)."""
    kernel = np.exp(-slope * errors)
    output = np.full(errors.shape[1], 1 / errors.shape[1])
    for _ in range(rounds):
        output = output * ((source / np.maximum(kernel @ output, 1e-300)) @ kernel)
    total = np.maximum(kernel @ output, 1e-300)
    joint = source[:, None] * kernel * output / total[:, None]
    distortion = float((joint * errors).sum())
    nats = float(-(source * np.log(total)).sum()) - slope * distortion
    return distortion, max(nats / np.log(2), 0.0)
