"""Signal to noise: how far rounding moved a tensor."""

import math

from torch import Tensor


def sqnr_db(reference: Tensor, value: Tensor) -> float:
    """Power of `reference` over the power of the difference, in dB; inf when nothing differs."""
    exact = reference.double()
    noise = float((exact - value.double()).square().sum())
    signal = float(exact.square().sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
