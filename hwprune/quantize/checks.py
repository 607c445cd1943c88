"""What cannot be quantised, and what will suffer from it: found before anything is written."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from hwprune.errors import DataError, ModelError
from hwprune.graph.cost import output_axis
from hwprune.network.run import Inputs
from hwprune.quantize.encodings import Encodings
from hwprune.quantize.placement import Placement, products
from hwprune.quantize.ranges import Range

_LEAST = 2  # samples: one says nothing of what others cause
_LEVELS = 256  # a channel this many times as far as others leaves them one level


def check_samples(x: Inputs) -> None:
    """Raises DataError when the calibration samples are too few, or all the same."""
    count = len(x[0])
    if count < _LEAST:
        raise DataError(f"{count} calibration samples are too few", "give some hundreds")
    if all(bool((tensor == tensor[:1]).all()) for tensor in x):
        raise DataError(
            f"the {count} calibration samples are all the same", "give different inputs"
        )


def check_weights(graph: gs.Graph, placement: Placement) -> None:
    """Raises ModelError when the weight of an int8 node is NaN or infinite."""
    for node in products(graph, placement):
        weight = node.inputs[1]
        if not np.isfinite(weight.values).all():
            raise ModelError(
                f"node {node.name!r}: its weight {weight.name!r} holds NaN or infinity",
                "train or export the network again",
            )


def check_ranges(ranges: Mapping[str, Range]) -> None:
    """Raises DataError when a tensor became NaN or infinite."""
    for tensor, found in ranges.items():
        if not np.isfinite((found.low, found.high)).all():
            raise DataError(
                f"tensor {tensor!r} becomes NaN or infinite on the calibration data",
                "check the scale of the data (--mean, --std, --scale)",
            )


def check_encodings(encodings: Encodings) -> None:
    """Raises ModelError when a scale is no positive number."""
    for name, encoding in {**encodings.activations, **encodings.weights}.items():
        if not (np.isfinite(encoding.scale) & (encoding.scale > 0)).all():
            raise ModelError(
                f"quantising {name!r} gave a scale that is NaN, infinite or zero",
                "leave the nodes around it in fp32",
            )


def silent_channels(graph: gs.Graph, placement: Placement) -> Iterator[str]:
    """One line per int8 node of which some output channels have no weight but zeros."""
    for node in products(graph, placement):
        rows = np.moveaxis(node.inputs[1].values, output_axis(node), 0)
        silent = np.flatnonzero(~rows.reshape(len(rows), -1).any(1))
        if len(silent):
            yield (
                f"node {node.name!r}: the weights of {len(silent)} of {len(rows)} output channels "
                f"are all zero, such as {silent[0]}"
            )


def exploding_channel(value: Tensor) -> str | None:
    """What is wrong with an `N x C x ...` tensor of which one channel dwarfs the others.

    All share one scale, so what is 256 times as small as the largest value is rounded to nothing.
    """
    if value.ndim < 3:
        return None
    peaks = value.abs().flatten(2).amax((0, 2))
    usual, top = float(peaks.median()), float(peaks.max())
    if usual == 0 or top < _LEVELS * usual:
        return None
    return f"channel {int(torch.argmax(peaks))} reaches {top:.3g}, half of the others {usual:.3g}"
