"""A model with its weights exchanged, and what its products of matrices read, by onnxruntime.

Any file that the runtime runs can be probed: nothing is translated.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from hwprune.codec.products import multiplications
from hwprune.codec.weights import Weight, tensors
from hwprune.errors import UnsupportedModelError

Array = NDArray[Any]
Proto = onnx.ModelProto | onnx.GraphProto
Samples = tuple[Array, ...]  # one array for each input, samples first


class Probe:
    """Runs a model whose weights may be exchanged from run to run.

    Args:
        model: Parsed; it is left as it is.
        weights: Those that may be exchanged.
        x: Samples, N x ..., one array for each input; repeated where a batch takes more.
        threads: So many batches run side by side.
    """

    def __init__(
        self, model: onnx.ModelProto, weights: Sequence[Weight], x: Samples, threads: int = 1
    ) -> None:
        self.weights, self._threads = weights, threads
        every = tensors(model)
        own = {weight.name: every[weight.name] for weight in weights}
        self._session = _session(_light(model, own, [weight.data for weight in weights]))
        self._held = {name: numpy_helper.to_array(tensor) for name, tensor in own.items()}
        given = [i for i in self._session.get_inputs() if i.name not in own][: len(x)]
        self._inputs = [i.name for i in given]
        sizes = [i.shape[0] for i in given]
        self._batch = sizes[0] if isinstance(sizes[0], int) else 1
        self.x = self._whole(x)
        self._outputs = [o.name for o in self._session.get_outputs()][: len(model.graph.output)]

    @property
    def batches(self) -> int:
        """Into how many runs the samples are divided."""
        return len(self.x[0]) // self._batch

    @property
    def multiplications(self) -> int:
        """About how many a sample takes."""
        batch = next(self.read(list(dict.fromkeys(w.data for w in self.weights))))
        return sum(multiplications(w, batch[w.data]) for w in self.weights) // self._batch

    def on(self, x: Samples) -> "Probe":
        """The same, on other samples."""
        found = copy(self)
        found.x = self._whole(x)
        return found

    def outputs(self, exchanged: Mapping[str, Array] | None = None) -> list[Array]:
        """Of all samples, with some weights exchanged: by name, as the model holds them."""
        wanted = partial(self._run, wanted=self._outputs, exchanged=exchanged or {})
        with ThreadPoolExecutor(self._threads) as pool:
            found = list(pool.map(wanted, self._batches()))
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def read(self, names: Sequence[str]) -> Iterator[dict[str, Array]]:
        """What stands in some tensors, batch by batch."""
        inside = [name for name in names if name not in self._inputs]

        def batch(x: Samples) -> dict[str, Array]:
            given = dict(zip(self._inputs, x, strict=True))
            found = self._run(x, inside, {}) if inside else []
            return given | dict(zip(inside, found, strict=True))

        with ThreadPoolExecutor(self._threads) as pool:
            batches = self._batches()
            while portion := list(islice(batches, self._threads)):
                yield from pool.map(batch, portion)

    def _whole(self, x: Samples) -> Samples:
        """Batches that are full: samples are repeated where there are too few of them."""
        count = -(-len(x[0]) // self._batch) * self._batch
        return tuple(np.resize(a, (count, *a.shape[1:])) if len(a) < count else a for a in x)

    def _run(self, x: Samples, wanted: list[str], exchanged: Mapping[str, Array]) -> list[Array]:
        feeds = dict(zip(self._inputs, x, strict=True)) | self._held | dict(exchanged)
        with _runnable():
            found: list[Array] = self._session.run(wanted, feeds)
        return found

    def _batches(self) -> Iterator[Samples]:
        """As many samples at a time as the model reads."""
        for start in range(0, len(self.x[0]), self._batch):
            yield tuple(a[start : start + self._batch] for a in self.x)


def _light(
    model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto], read: Sequence[str]
) -> onnx.ModelProto:
    """The model with its weights as inputs, which gives out the tensors that are read, too."""
    names = set(weights)
    found = onnx.ModelProto()
    _copy(model, found, {"graph"})
    _copy(model.graph, found.graph, {"initializer", "node"})
    found.graph.initializer.extend(t for t in model.graph.initializer if t.name not in names)
    found.graph.node.extend(n for n in model.graph.node if names.isdisjoint(n.output))
    own = {i.name for i in found.graph.input}
    for name, tensor in weights.items():
        if name not in own:
            info = onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
            found.graph.input.append(info)
    out = {o.name for o in found.graph.output} | {i.name for i in found.graph.input}
    for name in dict.fromkeys(read):
        if name not in out:
            found.graph.output.append(onnx.ValueInfoProto(name=name))
    return found


def _copy(source: Proto, target: Proto, without: set[str]) -> None:
    """All other fields; none of them is a single message."""
    for field, value in source.ListFields():
        if field.name in without:
            continue
        if isinstance(value, str | int):
            setattr(target, field.name, value)
        else:
            getattr(target, field.name).extend(value)


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # that weights are inputs is no news
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with _runnable():
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


@contextmanager
def _runnable() -> Iterator[None]:
    """What the runtime refuses, as an error of the model."""
    try:
        yield
    except Exception as error:  # its own errors have no class in common
        said = str(error).strip().partition("\n")[0]
        raise UnsupportedModelError(
            f"onnxruntime cannot run the model: {said}", "pack it without a bound: nothing is lost"
        ) from error
