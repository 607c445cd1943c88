"""SuRP: the weights by successive refinement, so that any beginning of a file is a coarser model.

Isik et al. 2022, of which `hwprune.codec.refining` tells. Each tensor is divided by its mean
magnitude, or by what matters alike to the outputs, and all of them are refined together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.chunks import pieces, write_chunk
from hwprune.codec.coded import Coded
from hwprune.codec.decoder.forms import FORMS
from hwprune.codec.decoder.parts import Parts
from hwprune.codec.decoder.refinement import HEAD, walk
from hwprune.codec.packing import in_order, packed
from hwprune.codec.rate import Packed
from hwprune.codec.refining import Magnitudes, normalised, refinements
from hwprune.codec.weights import Weight


@dataclass(frozen=True, slots=True)
class Stop:
    """Refinement ends with the first chunk that goes beyond one of these.

    Below `zeros`, the share of weights that are still zero; below `distortion`, the mean magnitude
    that is lacking, of a mean magnitude of 1; above `bits`, those of all chunks per weight.
    """

    zeros: float = 0.0
    bits: float = 8.0
    distortion: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """A chunk, and where refinement stands behind it (as in `Stop`)."""

    chunk: bytes
    zeros: float
    distortion: float


@dataclass(frozen=True, slots=True)
class Refined:
    """Weights in the order in which a decoder tells them, and the chunks of all of them.

    `entries` are what it is told of each, by the index of its hole; `count` is how many numbers
    they are.
    """

    weights: Sequence[Weight]
    entries: Mapping[int, dict[str, Any]]
    count: int
    steps: Sequence[Step]

    def sections(self, chunks: int) -> list[tuple[bytes, bytes]]:
        """Of a file that holds the first chunks; none where there are no weights."""
        if not self.weights:
            return []
        contents = [step.chunk for step in self.steps[:chunks]]
        head = HEAD.pack(self.count, sum(map(len, contents)))
        return [(b"R", content) for content in (head, *contents)]


def refine(
    found: Iterable[Weight], stop: Stop = Stop(), scales: Mapping[int, float] | None = None
) -> Refined:
    """Chunks of weights until it is enough; weights that are 0 throughout take none.

    `scales`, by the index of a weight, are magnitudes that matter alike; their means, if None.
    """
    ordered = in_order(found)
    count = sum(weight.values.size for weight in ordered)
    magnitudes, signs = np.empty(count, np.int32), np.empty(count, np.int8)
    entries, at = {}, 0
    for weight in ordered:
        own, unit = normalised(weight.values, (scales or {}).get(weight.index))
        for first, places in walk(at, at + own.size, count):
            part = slice(first - at, first - at + len(places))
            magnitudes[places] = own[part]
            signs[places] = np.where(weight.values.reshape(-1)[part] < 0, -1, 1)
        more = {"shape": list(weight.values.shape), "unit": float(unit)}
        entries[weight.index] = weight.entry("refined") | more
        at += own.size
    steps = _until(_steps(magnitudes, signs), count, stop) if count else []
    return Refined(ordered, entries, count, steps)


def _steps(magnitudes: Magnitudes, signs: NDArray[np.int8]) -> Iterator[Step]:
    """Of magnitudes in the order of the walk, which are used up, as signs are: 0 once told."""
    count = zeros = len(magnitudes)
    total = lacking = int(magnitudes.sum(dtype=np.int64))
    for one in refinements(magnitudes):
        for start, places in pieces(one.blocks, one.hits, count):
            new = places[signs[places] != 0]
            chunk = write_chunk(one.threshold, start, places, signs[new] < 0)
            signs[new] = 0
            zeros, lacking = zeros - len(new), lacking - one.threshold * len(places)
            yield Step(chunk, zeros / count, lacking / total)


def _until(steps: Iterator[Step], count: int, stop: Stop) -> list[Step]:
    found, size = [], 0
    for step in steps:
        found.append(step)
        size += len(step.chunk)
        enough = step.zeros < stop.zeros or step.distortion < stop.distortion
        if enough or 8 * size > stop.bits * count:
            break
    return found


class Surp:
    """Weights of a serialised model, refined once: every number of chunks is a file of its own.

    Models that have nothing to refine are coded exactly. `scales` as in `refine`.
    """

    def __init__(
        self,
        model: bytes,
        found: Iterable[Weight],
        stop: Stop = Stop(),
        scales: Mapping[int, float] | None = None,
    ) -> None:
        self._model = model
        self.refined = refine(found, stop, scales)

    @property
    def chunks(self) -> int:
        """How many there are."""
        return len(self.refined.steps)

    def at(self, coarseness: float) -> Packed:
        """The file of all chunks (0) to that of one (1)."""
        return self.pack(self.chunks - round(coarseness * max(self.chunks - 1, 0)))

    def pack(self, chunks: int) -> Packed:
        """The file of the first chunks."""
        sections = self.refined.sections(chunks)
        return packed(self._model, "surp", self.refined.weights, self._coded(sections), sections)

    def decoded(self, chunks: int) -> bytes:
        """The model that a decoder makes of the first chunks."""
        return self.pack(chunks).model

    def _coded(self, sections: Sequence[tuple[bytes, bytes]]) -> Iterator[Coded]:
        """Each tensor as a decoder tells it by these sections."""
        parts, refined, most = Parts(), self.refined, len(self._model)
        for weight in refined.weights:
            if weight.grid is not None:
                parts.tensors[weight.grid.scale] = weight.grid.steps.astype("<f4").tobytes()
        for _, content in sections:
            parts.add_refinement(memoryview(content), most)
        for weight in refined.weights:
            entry = refined.entries[weight.index]
            yield Coded(entry, data=FORMS["refined"](entry, parts, most))
