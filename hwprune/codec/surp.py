"""SuRP: the weights by successive refinement, so that any beginning of a file is a coarser model.

Isik et al. 2022, of which `hwprune.codec.refining` tells. Each tensor is divided by its mean
magnitude, or by what matters alike to the outputs, and all of them are refined together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.chunks import pieces, write_chunk
from hwprune.codec.coded import Coded
from hwprune.codec.container import Section
from hwprune.codec.decoder.forms import FORMS
from hwprune.codec.decoder.parts import Parts
from hwprune.codec.decoder.refinement import HEAD, walk
from hwprune.codec.exact import exact
from hwprune.codec.packing import packed
from hwprune.codec.rate import Packed
from hwprune.codec.refining import Magnitudes, normalised, refinements
from hwprune.codec.skeleton import holes
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

    def sections(self, chunks: int) -> list[Section]:
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
    ordered = sorted(found, key=lambda weight: weight.grid is not None)
    count = sum(weight.values.size for weight in ordered)
    magnitudes, negative = np.empty(count, np.int32), np.empty(count, np.bool_)
    entries, at = {}, 0
    for weight in ordered:
        own, unit = normalised(weight.values, (scales or {}).get(weight.index))
        for first, places in walk(at, at + own.size, count):
            part = slice(first - at, first - at + len(places))
            magnitudes[places] = own[part]
            negative[places] = weight.values.reshape(-1)[part] < 0
        more = {"shape": list(weight.values.shape), "unit": float(unit)}
        entries[weight.index] = weight.entry("refined") | more
        at += own.size
    steps = _until(_steps(magnitudes, negative), count, stop) if count else []
    return Refined(ordered, entries, count, steps)


def _steps(magnitudes: Magnitudes, negative: NDArray[np.bool_]) -> Iterator[Step]:
    """Of magnitudes in the order of the walk, which are used up."""
    count, fresh = len(magnitudes), np.ones(len(magnitudes), np.bool_)
    total = lacking = int(magnitudes.sum(dtype=np.int64))
    zeros = count
    for threshold, hits in refinements(magnitudes):
        for start, places in pieces(hits, count):
            new = places[fresh[places]]
            fresh[new] = False
            zeros, lacking = zeros - len(new), lacking - threshold * len(places)
            chunk = write_chunk(threshold, start, places, negative[new])
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
        self._model, self._holes = model, holes(model)
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
        told, sections = self._told(chunks), self.refined.sections(chunks)
        return packed(self._model, self._holes, self._tensors, "surp", told.get, sections)

    def decoded(self, chunks: int) -> bytes:
        """The model that a decoder makes of the first chunks."""
        return self.pack(chunks).model

    def _told(self, chunks: int) -> dict[int, bytes]:
        """The bytes of each tensor that is refined."""
        parts, refined, most = Parts(), self.refined, len(self._model)
        for weight in refined.weights:
            if weight.grid is not None:
                hole = self._holes[weight.grid.scale]
                parts.tensors[weight.grid.scale] = self._model[hole.start : hole.stop]
        for _, content in refined.sections(chunks):
            parts.add_refinement(memoryview(content), most)
        return {i: FORMS["refined"](entry, parts, most) for i, entry in refined.entries.items()}

    @cached_property
    def _tensors(self) -> list[Coded]:
        entries = self.refined.entries
        return [
            Coded(entries[i]) if i in entries else exact(hole, self._model)
            for i, hole in enumerate(self._holes)
        ]
