"""How the pixels of an image become what a network was trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Normalization:
    """(pixel / scale - mean) / std, per channel; one value serves all channels."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 255.0

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalises N x C x H x W pixel values."""
        mean = np.asarray(self.mean, np.float32).reshape(1, -1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(1, -1, 1, 1)
        return (pixels / np.float32(self.scale) - mean) / std


UNIT_RANGE = Normalization()  # pixel / 255
