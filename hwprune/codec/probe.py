"""A model with its weights exchanged, and what its products of matrices read, by onnxruntime.

Any file that the runtime runs can be probed: nothing is translated.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from hwprune.codec.weights import Weight
from hwprune.errors import UnsupportedModelError

Array = NDArray[Any]
Samples = tuple[Array, ...]  # one array for each input, samples first


class Probe:
    """Runs a model whose weights may be exchanged from run to run.

    Args:
        model: Parsed; it is left as it is.
        weights: Those that may be exchanged.
        x: Samples, N x ..., one array for each input.
        threads: So many batches run side by side.
    """

    def __init__(
        self, model: onnx.ModelProto, weights: Sequence[Weight], x: Samples, threads: int = 1
    ) -> None:
        self.weights, self.x, self._threads = weights, x, threads
        self._session = _session(_opened(model, weights))
        given = self._session.get_inputs()[: len(x)]
        self._inputs = [i.name for i in given]
        sizes = [i.shape[0] for i in given]
        self._batch = sizes[0] if isinstance(sizes[0], int) else 1
        self._outputs = [o.name for o in self._session.get_outputs()][: len(model.graph.output)]

    @property
    def batches(self) -> int:
        """Into how many runs the samples are divided."""
        return len(self.x[0]) // self._batch

    def of(self, samples: int) -> "Probe":
        """A probe that looks at the first samples only."""
        found = copy(self)
        found.x = tuple(a[:samples] for a in self.x)
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
        for x in self._batches():
            given = dict(zip(self._inputs, x, strict=True))
            yield given | dict(zip(inside, self._run(x, inside, {}), strict=True))

    def _run(self, x: Samples, wanted: list[str], exchanged: Mapping[str, Array]) -> list[Array]:
        feeds = dict(zip(self._inputs, x, strict=True)) | dict(exchanged)
        with _runnable():
            found: list[Array] = self._session.run(wanted, feeds)
        return found

    def _batches(self) -> Iterator[Samples]:
        """As many samples at a time as the model reads; what is left over is not looked at."""
        for start in range(0, len(self.x[0]) - self._batch + 1, self._batch):
            yield tuple(a[start : start + self._batch] for a in self.x)


def _opened(model: onnx.ModelProto, weights: Sequence[Weight]) -> onnx.ModelProto:
    """A copy whose weights are inputs with defaults, and which gives out what they multiply."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    _constants_to_initializers(found.graph)
    held = {t.name: t for t in found.graph.initializer}
    own = {i.name for i in found.graph.input}
    for weight in weights:
        tensor = held[weight.name]
        if weight.name not in own:
            found.graph.input.append(
                onnx.helper.make_tensor_value_info(weight.name, tensor.data_type, tensor.dims)
            )
    out = {o.name for o in found.graph.output} | {i.name for i in found.graph.input}
    for name in dict.fromkeys(weight.data for weight in weights):
        if name not in out:
            found.graph.output.append(onnx.ValueInfoProto(name=name))
    return found


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    constants = [n for n in graph.node if n.op_type == "Constant"]
    for node in constants:
        values = [a.t for a in node.attribute if a.name == "value"]
        if values:
            tensor = graph.initializer.add()
            tensor.CopyFrom(values[0])
            tensor.name = node.output[0]
            graph.node.remove(node)


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
