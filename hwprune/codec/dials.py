"""The codecs that lose something, each as a dial from fine to coarse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hwprune.codec.deadzone import quantize
from hwprune.codec.packing import in_order, packed
from hwprune.codec.rate import Packed
from hwprune.codec.weights import Weight
from hwprune.quantize.gptq import Inverse

_FINEST, _COARSEST = -7.0, 4.0  # log2 of the common factor of all steps


def common_factor(coarseness: float) -> float:
    """Of all steps: 2^-7 (0) to 2^4 (1)."""
    return float(2 ** (_FINEST + coarseness * (_COARSEST - _FINEST)))


@dataclass(frozen=True)
class DeadZone:
    """Steps on two grids, pulled towards zero.

    Attributes:
        model: Serialised.
        weights: What is coded.
        steps: For each weight, at factor 1.
        known: Of what weights are multiplied with, where it is known.
    """

    model: bytes
    weights: Sequence[Weight]
    steps: Mapping[int, float]
    known: Mapping[int, Inverse] = field(default_factory=dict)

    def at(self, coarseness: float) -> Packed:
        """The file whose steps are multiplied by 2^-7 (0) to 2^4 (1)."""
        factor = common_factor(coarseness)
        steps = {index: factor * step for index, step in self.steps.items()}
        ordered = in_order(self.weights)
        coded = (one.coded for one in quantize(ordered, steps, self.known))
        return packed(self.model, "deadzone", ordered, coded)
