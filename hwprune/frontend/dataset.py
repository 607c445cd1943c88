"""Images and labels in memory, and how pixels become what a network reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from hwprune.frontend.normalization import UNIT_RANGE, Normalization

Raw = NDArray[Any]
Index = slice | Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """Samples as they were read; `batch` gives them as the network wants them.

    Attributes:
        raw: uint8 images N x H x W x C, or inputs N x ... that are ready for the network.
        y: class per sample (int64), or None where there are no labels.
        normalization: applied to uint8 images.
        size: height and width that uint8 images are enlarged to (bilinear); None keeps theirs.
        parts: lengths of the train, search and eval part, in this order, where the source fixes
            them; None where `split` may choose.
        channels_last: whether the network reads images as N x H x W x C.
        more: the network's other inputs, N x ..., ready for it.
    """

    raw: Raw
    y: NDArray[np.int64] | None = None
    normalization: Normalization = UNIT_RANGE
    size: tuple[int, int] | None = None
    parts: tuple[int, int, int] | None = None
    channels_last: bool = False
    more: tuple[NDArray[Any], ...] = ()

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.y is not None

    @property
    def x(self) -> NDArray[Any]:
        """All samples of the first input at once; for large sets use `batch`."""
        return self.batch(slice(None))

    def inputs(self, index: Index) -> tuple[NDArray[Any], ...]:
        """The chosen samples, an array for each input of the network."""
        return (self.batch(index), *(np.ascontiguousarray(other[index]) for other in self.more))

    def batch(self, index: Index) -> NDArray[Any]:
        """The chosen samples of the first input; images as float32, channels as the network's."""
        chosen = self.raw[index]
        if chosen.dtype != np.uint8:
            return np.ascontiguousarray(chosen)
        pixels = np.ascontiguousarray(chosen.transpose(0, 3, 1, 2), np.float32)
        ready = self.normalization(_resize(pixels, self.size))
        return np.ascontiguousarray(ready.transpose(0, 2, 3, 1)) if self.channels_last else ready

    def select(self, index: Index) -> "DataSet":
        """The chosen samples as a set of their own."""
        y = None if self.y is None else self.y[index]
        more = tuple(other[index] for other in self.more)
        return replace(self, raw=self.raw[index], y=y, parts=None, more=more)

    def repeated(self, channels: int) -> "DataSet":
        """Grey samples with their one channel repeated."""
        if self.raw.dtype == np.uint8:
            return replace(self, raw=np.repeat(self.raw, channels, 3).astype(np.uint8, copy=False))
        return replace(self, raw=np.repeat(self.raw, channels, 1).astype(np.float32, copy=False))

    def take(self, count: int, seed: int) -> "DataSet":
        """At most `count` samples drawn at random, class-balanced where there are labels."""
        return self if count >= len(self) else self.select(balanced_order(self, seed)[:count])


def balanced_order(data: DataSet, seed: int) -> NDArray[np.int64]:
    """A random order of which every stretch holds the classes in nearly the same proportions."""
    order = np.random.default_rng(seed).permutation(len(data))
    if data.y is None:
        return order
    labels = data.y[order]
    position = np.empty(len(data))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(position, kind="stable")]


def _resize(pixels: NDArray[np.float32], size: tuple[int, int] | None) -> NDArray[np.float32]:
    if size is None or pixels.shape[2:] == size:
        return pixels
    larger = F.interpolate(torch.from_numpy(pixels), size, mode="bilinear", align_corners=False)
    return np.asarray(larger.numpy(), np.float32)
