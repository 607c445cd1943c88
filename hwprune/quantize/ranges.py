"""Ranges that an activation quantiser may cover, by what is lost within and what beyond them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_VALUES = 1 << 15  # looked at, of a large tensor
_PERCENTILE = 99.99
_SHRINK = 0.9 ** torch.arange(32)  # of an end: down to 4 %
_BINS = 2048
_THRESHOLDS = 32


@dataclass(frozen=True, slots=True)
class Range:
    """What is told apart: values beyond are clipped. It holds zero."""

    low: float
    high: float

    def rounded(self, values: Tensor, bits: int = 8) -> Tensor:
        """`values` on the grid of 2^bits integers that covers the range."""
        scale = max(self.high - self.low, 1e-10) / (2**bits - 1)
        zero = round(-self.low / scale)
        steps = (values / scale).round().clamp(-zero, 2**bits - 1 - zero)
        rounded: Tensor = steps * scale
        return rounded


def candidates(values: Tensor, bits: int = 8) -> dict[str, Range]:
    """The range of each method of `RANGES`, for all values that a tensor takes."""
    few, ends = _drawn(values.flatten()), whole(values)
    return {name: method(few, ends, bits) for name, method in RANGES.items()}


def whole(values: Tensor) -> Range:
    """From the least value to the greatest, and zero."""
    low, high = torch.aminmax(values)
    return Range(min(float(low), 0.0), max(float(high), 0.0))


def _drawn(values: Tensor) -> Tensor:
    """Enough of many values; by chance, as any stride may fall in step with a shape."""
    if len(values) <= _VALUES:
        return values
    generator = torch.Generator().manual_seed(0)
    return values[torch.randint(len(values), (_VALUES,), generator=generator)]


def _percentile(values: Tensor, ends: Range, bits: int) -> Range:
    """Cut on either side where the rest is as rare as the percentile says."""
    cut = (1 - _PERCENTILE / 100) * (len(values) - 1)
    low = values.kthvalue(1 + math.floor(cut)).values
    high = values.kthvalue(len(values) - math.floor(cut)).values
    return Range(min(float(low), 0.0), max(float(high), 0.0))


def _least_error(values: Tensor, ends: Range, bits: int) -> Range:
    """The least mean squared error: one end is drawn in, then the other."""

    def error(r: Range) -> float:
        return float((r.rounded(values, bits) - values).square().sum())

    tops = [Range(ends.low, ends.high * float(s)) for s in _SHRINK]
    best = min(tops, key=error)
    return min((Range(best.low * float(s), best.high) for s in _SHRINK), key=error)


def _entropy(values: Tensor, ends: Range, bits: int) -> Range:
    """The least KL divergence of the rounded distribution from the original (Migacz 2017).

    On magnitudes, whose levels are half as many where there are two signs; zeros are left out, as
    every grid holds zero.
    """
    levels = 2**bits if ends.low == 0 else 2 ** (bits - 1)
    top = max(ends.high, -ends.low)
    counts = torch.histc(values[values != 0].abs(), _BINS, 0, top or 1.0).double()
    stops = torch.linspace(max(levels, _BINS / _THRESHOLDS), _BINS, _THRESHOLDS).round().int()
    end = min(stops.tolist(), key=lambda e: _divergence(counts, e, levels))
    return Range(max(ends.low, -top * end / _BINS), min(ends.high, top * end / _BINS))


def _divergence(counts: Tensor, end: int, levels: int) -> float:
    """KL(P | Q): P is `counts` clipped at bin `end`, Q what is left of it in `levels` levels."""
    p = counts[:end].clone()
    p[-1] += counts[end:].sum()
    level = torch.arange(end) * levels // end
    occupied = (counts[:end] > 0).double()
    mass = torch.zeros(levels, dtype=torch.double).index_add(0, level, counts[:end])
    share = torch.zeros(levels, dtype=torch.double).index_add(0, level, occupied)
    q = occupied * (mass / share.clamp_min(1))[level]
    p, q = p / p.sum(), q / q.sum().clamp_min(1)
    seen = p > 0
    return float((p[seen] * (p[seen] / q[seen].clamp_min(1e-12)).log()).sum())


Method = Callable[[Tensor, Range, int], Range]
RANGES: Mapping[str, Method] = {
    "minmax": lambda values, ends, bits: ends,
    "percentile": _percentile,
    "mse": _least_error,
    "entropy": _entropy,
}
