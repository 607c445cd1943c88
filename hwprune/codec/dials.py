"""The codecs that lose something, each as a dial from fine to coarse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from hwprune.codec.coded import Coded
from hwprune.codec.deadzone import Quantized, quantize
from hwprune.codec.exact import exact
from hwprune.codec.packing import packed
from hwprune.codec.rate import Packed
from hwprune.codec.skeleton import Hole, holes
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
        found = [
            quantize(w, factor * self.steps[w.index], self.known.get(w.index)) for w in self.weights
        ]
        return self._packed(found)

    def _packed(self, found: Sequence[Quantized]) -> Packed:
        by_index = {one.weight.index: one for one in found}
        coded = [
            by_index[i].coded if i in by_index else self._exact[i] for i in range(len(self._holes))
        ]

        def told(index: int) -> bytes | None:
            one = by_index.get(index)
            return None if one is None else one.weight.stored(one.values).tobytes()

        return packed(self.model, self._holes, coded, "deadzone", told)

    @cached_property
    def _holes(self) -> list[Hole]:
        return holes(self.model)

    @cached_property
    def _exact(self) -> dict[int, Coded]:
        """All other tensors."""
        own = {w.index for w in self.weights}
        return {i: exact(h, self.model) for i, h in enumerate(self._holes) if i not in own}
