"""SuRP: the weights by successive refinement, so that any beginning of a file is a coarser model.

Isik et al. 2022, of which `hwprune.codec.refining` tells. Each tensor is divided by its mean
magnitude, and all of them are refined together.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hwprune.codec.chunks import pieces, write_chunk
from hwprune.codec.coded import Coded
from hwprune.codec.container import Section
from hwprune.codec.decoder.container import CHECK
from hwprune.codec.decoder.container import HEAD as FRAME
from hwprune.codec.decoder.forms import FORMS
from hwprune.codec.decoder.parts import Parts
from hwprune.codec.decoder.refinement import HEAD, walk
from hwprune.codec.exact import exact
from hwprune.codec.packing import packed
from hwprune.codec.refining import Magnitudes, normalised, refinements
from hwprune.codec.skeleton import holes
from hwprune.codec.weights import Weight, weights


@dataclass(frozen=True, slots=True)
class Stop:
    """Refinement ends with the first chunk that reaches one of these.

    `zeros` is the share of weights that are still zero, `bits` are those of all chunks per weight,
    `distortion` is the mean magnitude that is lacking, of a mean magnitude of 1.
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
    """Weights in the order in which a decoder tells them, what it is told of each, and the chunks.

    `count` is how many numbers the weights are.
    """

    weights: Sequence[Weight]
    entries: Sequence[dict[str, Any]]
    count: int
    steps: Sequence[Step]

    def sections(self, chunks: int) -> list[Section]:
        """Of a file that holds the first chunks; none where there are no weights."""
        if not self.weights:
            return []
        contents = [step.chunk for step in self.steps[:chunks]]
        head = HEAD.pack(self.count, sum(map(len, contents)))
        return [(b"R", content) for content in (head, *contents)]


def refine(found: Iterable[Weight], stop: Stop = Stop()) -> Refined:
    """Chunks of weights until it is enough; weights that are 0 throughout take none."""
    ordered = sorted(found, key=lambda weight: weight.grid is not None)
    count = sum(weight.values.size for weight in ordered)
    magnitudes, negative = np.empty(count, np.int32), np.empty(count, np.bool_)
    entries, at = [], 0
    for weight in ordered:
        own, unit = normalised(weight.values)
        for first, places in walk(at, at + own.size, count):
            part = slice(first - at, first - at + len(places))
            magnitudes[places] = own[part]
            negative[places] = weight.values.reshape(-1)[part] < 0
        entries.append(
            weight.entry("refined") | {"shape": list(weight.values.shape), "unit": float(unit)}
        )
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
        enough = step.zeros <= stop.zeros or step.distortion <= stop.distortion
        if enough or 8 * size >= stop.bits * count:
            break
    return found


class Surp:
    """A serialised model, refined once: every number of chunks is a file of its own."""

    def __init__(self, model: bytes, stop: Stop = Stop()) -> None:
        self._model, self._holes = model, holes(model)
        self.refined = refine(weights(onnx.load_model_from_string(model), model, self._holes), stop)

    def decoded(self, chunks: int) -> bytes:
        """The model that a decoder makes of so many chunks."""
        stop, parts = 0, []
        told = self._told(chunks)
        for i in sorted(told):
            hole = self._holes[i]
            parts += [self._model[stop : hole.start], told[i]]
            stop = hole.stop
        return b"".join([*parts, self._model[stop:]])

    def pack(self, chunks: int) -> bytes:
        """A .hwp file of that many chunks, from 1 on; fewer if there are no more."""
        extra = self.refined.sections(chunks)
        return packed(self._model, self._tensors, "surp", self.decoded(chunks), extra)

    def within(self, size: int) -> bytes:
        """The file of most chunks that takes no more than `size` bytes; or that of one chunk."""
        chunks = len(self.refined.steps)
        while len(file := self.pack(chunks)) > size and chunks > 1:
            chunks = self._fewer(chunks, len(file) - size)
        return file

    def _fewer(self, chunks: int, over: int) -> int:
        """So many that a file is shorter by `over` bytes."""
        while over > 0 and chunks > 1:
            chunks -= 1
            over -= len(self.refined.steps[chunks].chunk) + FRAME.size + CHECK.size
        return chunks

    @cached_property
    def _tensors(self) -> list[Coded]:
        refined = self.refined
        pairs = zip(refined.weights, refined.entries, strict=True)
        entries = {weight.index: entry for weight, entry in pairs}
        return [
            Coded(entries[i]) if i in entries else exact(hole, self._model)
            for i, hole in enumerate(self._holes)
        ]

    def _told(self, chunks: int) -> dict[int, bytes]:
        """The bytes of each weight, by the number of its hole."""
        parts = Parts()
        for weight in self.refined.weights:
            if weight.grid is not None:
                scale = self._holes[weight.grid.scale]
                parts.tensors[weight.grid.scale] = self._model[scale.start : scale.stop]
        for _, content in self.refined.sections(chunks):
            parts.add_refinement(memoryview(content), len(self._model))
        pairs = zip(self.refined.weights, self.refined.entries, strict=True)
        return {w.index: FORMS["refined"](entry, parts, len(self._model)) for w, entry in pairs}


def pack_surp(model: bytes, stop: Stop = Stop()) -> bytes:
    """A .hwp file of a serialised model that can be cut anywhere behind its first chunk."""
    refined = Surp(model, stop)
    return refined.pack(len(refined.refined.steps))
