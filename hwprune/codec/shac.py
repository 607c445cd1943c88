"""HAM and sHAM: models whose weights share few values, by Huffman codes (arXiv 2108.12704)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx

from hwprune.codec.coded import Coded
from hwprune.codec.levels import Reals
from hwprune.codec.moments import Moment
from hwprune.codec.packing import in_order, packed
from hwprune.codec.products import from_matrix, matrix
from hwprune.codec.rate import Packed
from hwprune.codec.shared import Told, encode_shared, shared_portions, tell
from hwprune.codec.sharing import Codebook, share, tuned_centroids
from hwprune.codec.skeleton import holes
from hwprune.codec.weights import Weight, weights

CODECS = ("ham", "shac")  # every element, or gaps where they are shorter
_FEWEST, _MOST = 1.0, 8.0  # log2 of how many values there may be
_CHEAPEST, _DEAREST = -13.0, 4.0  # log2 of what a nat of code is worth
_LEAST = 1e-4  # of the mean weight of an error: what an input that is always zero has


def pack_shared(
    model: bytes,
    codec: str = "shac",
    quantiser: str = "ecsq",
    amount: float = 0.01,
    joint: bool = False,
    moments: Mapping[int, Moment] | None = None,
) -> Packed:
    """All weights of a serialised model, once: see `Sharing`, which also tells the arguments."""
    found = weights(onnx.load_from_string(model), model, holes(model))
    return Sharing(model, found, codec, quantiser, joint, moments).pack(amount)


class Sharing:
    """Weights of a serialised model that share few values."""

    def __init__(
        self,
        model: bytes,
        found: Sequence[Weight],
        codec: str = "shac",
        quantiser: str = "ecsq",
        joint: bool = False,
        moments: Mapping[int, Moment] | None = None,
        steps: Mapping[int, float] | None = None,
    ) -> None:
        """How to pack.

        Args:
            model: Serialised.
            found: What is coded.
            codec: "ham" codes every element, "shac" gaps and other elements where this is shorter.
            quantiser: A name in `hwprune.codec.sharing.QUANTISERS`.
            joint: All weights share one set of values, and codes.
            moments: Of what weights are multiplied with, by their index. Errors then count as in
                the outputs, and values that one weight has for itself are tuned to its outputs.
            steps: For each weight how large an error is that costs as much as one of another
                weight (`hwprune.codec.allocation`); by default its root mean square.

        Raises:
            ValueError: There is no such codec, or a moment is not of its weight's size.
        """
        if codec not in CODECS:
            raise ValueError(f"there is no codec {codec}, only {' and '.join(CODECS)}")
        self._model, self._weights, self._holes = model, found, holes(model)
        self._codec, self._quantiser, self._joint = codec, quantiser, joint
        self._moments = moments or {}
        self._kept: dict[int, Coded] = {}
        self._counted = [
            _counted(w, self._moments.get(w.index), (steps or {}).get(w.index)) for w in found
        ]

    def at(self, coarseness: float) -> Packed:
        """The file of 256 values (0) to 2 (1); for `ecsq` of prices from 2^-13 to 2^4."""
        if self._quantiser == "ecsq":
            return self.pack(2 ** (_CHEAPEST + coarseness * (_DEAREST - _CHEAPEST)))
        return self.pack(round(2 ** (_MOST + coarseness * (_FEWEST - _MOST))))

    def pack(self, amount: float) -> Packed:
        """The file of so many values for a weight, or for `ecsq` of a price.

        At a price of 1, one nat of an element's code is worth the square of its weight's step.

        Raises:
            ValueError: So many values, or such a price, are not possible.
        """
        shared = {one.weight.index: one for one in self._shared(amount)}
        ordered = in_order(one.weight for one in shared.values())
        told = [shared[weight.index].told for weight in ordered]
        sections = ((b"U", encode_shared(part)) for part in shared_portions(told))
        coded = (shared[weight.index].coded for weight in ordered)
        return packed(self._model, self._codec, ordered, coded, sections)

    def _shared(self, amount: float) -> "Iterator[_Shared]":
        """The weights for which shared values are shorter than they are."""
        alone = self._alone if not self._joint else self._jointly
        for weight, book in zip(self._weights, alone(amount), strict=True):
            family = "joint" if self._joint else str(weight.index)
            told = tell(book.index, family, self._codec == "shac")
            own = 0 if self._joint else 32 * len(book.centroids)  # bits of its values
            if told.bits + own < 8 * self._holes[weight.index].size:
                yield _Shared(weight, book, told)

    def _alone(self, amount: float) -> Iterator[Codebook]:
        """Values for each weight, tuned to its outputs where something is known of its inputs."""
        for weight, counted in zip(self._weights, self._counted, strict=True):
            book = share(weight.values, self._quantiser, amount, counted)
            moment = self._moments.get(weight.index)
            if moment is not None:
                index = matrix(weight, book.index.astype(np.float32)).astype(np.uint16)
                values = matrix(weight, weight.values)
                tuned = tuned_centroids(values, index, book.centroids, moment)
                book = replace(book, centroids=tuned)
            yield book

    def _jointly(self, amount: float) -> Iterator[Codebook]:
        """The same values for all weights."""
        shapes = [weight.values.shape for weight in self._weights]
        if not shapes:
            return
        values = np.concatenate([w.values.reshape(-1) for w in self._weights])
        pairs = zip(self._counted, shapes, strict=True)
        counted = [np.broadcast_to(c, shape).reshape(-1) for c, shape in pairs]
        book = share(values, self._quantiser, amount, np.concatenate(counted))
        parts = np.split(book.index, np.cumsum([prod(shape) for shape in shapes])[:-1])
        for part, shape in zip(parts, shapes, strict=True):
            yield replace(book, index=part.reshape(shape))


@dataclass(frozen=True, slots=True)
class _Shared:
    """A weight, its values, and how their indices are told."""

    weight: Weight
    book: Codebook
    told: Told

    @property
    def coded(self) -> Coded:
        """Without its indices, which are in sections of their own."""
        entry = self.weight.entry("codebook") | {"values": len(self.book.centroids)}
        data = self.weight.stored(self.book.values).tobytes()
        return Coded(entry, pooled=self.book.centroids.astype("<f4").tobytes(), data=data)


def _counted(weight: Weight, moment: Moment | None, step: float | None) -> Reals:
    """What squared errors count: 1 / step^2, but more where inputs are large."""
    power = float(np.square(weight.values, dtype=np.float64).mean()) or 1.0
    scale = power / step**2 if step else 1.0
    if moment is None:
        return np.full((1, 1, 1), scale / power)
    groups, outputs, columns = matrix(weight, weight.values).shape
    if moment.shape != (groups, columns, columns):
        raise ValueError(f"{weight.name} has {columns} columns, its moment {moment.shape}")
    loud = np.diagonal(moment, axis1=1, axis2=2)[:, None, :]
    loud = np.maximum(loud, _LEAST * float(loud.mean()) or 1.0)
    found = from_matrix(weight, np.broadcast_to(loud, (groups, outputs, columns)))
    total = float((found * weight.values.astype(np.float64) ** 2).mean())
    return found * (scale / total) if total else np.full((1, 1, 1), scale / power)
