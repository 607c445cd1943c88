"""Which kernels the null target runs for a model file.

A node whose data come out of DequantizeLinear runs int8, and the quantisation around it costs
nothing; where precision changes, QuantizeLinear or DequantizeLinear is a kernel of its own.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from hwprune.backends.null.rules import QUANTISED, kernel_ns
from onnx import shape_inference

from hwprune.backend import RUN, Kernel, Shape
from hwprune.graph.safety import load_checked

_QUANTIZE = "QuantizeLinear"
_DEQUANTIZE = "DequantizeLinear"
_FREE = {"Identity", "Dropout", "Constant", "Shape", _QUANTIZE, _DEQUANTIZE}
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_ABSORBED = {
    "Conv": {"Relu", "Clip", "BatchNormalization"},
    "ConvTranspose": {"Relu", "Clip", "BatchNormalization"},
    "Gemm": {"Relu", "Clip", "BatchNormalization"},
    "MatMul": {"Relu", "Clip"},
}
_STEERING = {"Reshape": 1, "Slice": 1, "Pad": 1, "Clip": 1, "Expand": 1, "Squeeze": 1}
_STEERING |= {"Unsqueeze": 1, "Resize": 1, "Split": 1, "ReduceMean": 1}  # inputs that are data


def model_ns(path: Path) -> float:
    """Nanoseconds of one run of a model file."""
    return sum(kernel_ns(k) for k in kernels_of(path))


def kernels_of(path: Path) -> list[Kernel]:
    """The kernels of a model file. Raises ModelError if it cannot be read."""
    model, weights = load_checked(path)
    return [RUN, *_Walk(shape_inference.infer_shapes(model).graph, weights)]


class _Walk:
    """The nodes of a graph as kernels."""

    def __init__(self, graph: onnx.GraphProto, weights: Iterable[str]) -> None:
        self._nodes = graph.node
        self._leaving = {o.name for o in graph.output}
        self._producer = {o: n for n in graph.node for o in n.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for tensor in node.input:
                self._readers.setdefault(tensor, []).append(node)
        self._shapes = _shapes(graph)
        self._constant = _constants(graph, weights)

    def __iter__(self) -> Iterator[Kernel]:
        for node in self._nodes:
            if node.output[0] in self._constant:
                continue
            if node.op_type in (_QUANTIZE, _DEQUANTIZE):
                yield from self._boundary(node)
            elif node.op_type not in _FREE and not self._absorbed(node):
                yield self._kernel(node)

    def _kernel(self, node: onnx.NodeProto) -> Kernel:
        count = _STEERING.get(node.op_type, len(node.input))
        shapes = tuple(self._shapes[t] for t in node.input[:count] if t in self._shapes)
        precision = "int8" if self._is_int8(node) else "fp32"
        return Kernel(node.op_type, precision, shapes, self._shapes[node.output[0]])

    def _boundary(self, node: onnx.NodeProto) -> Iterator[Kernel]:
        source, shape = self._producer.get(node.input[0]), self._shapes[node.output[0]]
        if node.op_type == _QUANTIZE:
            if source is None or not self._is_int8(source):
                yield Kernel(_QUANTIZE, "int8", (shape,), shape)
            return
        leaves = node.output[0] in self._leaving
        if leaves or not all(self._is_int8(n) for n in self._readers.get(node.output[0], [])):
            yield Kernel(_DEQUANTIZE, "int8", (shape,), shape)

    def _is_int8(self, node: onnx.NodeProto) -> bool:
        """Between quantised tensors: what it reads is dequantised, what it makes is quantised."""
        if node.op_type in (_QUANTIZE, _DEQUANTIZE):
            return False
        if self._absorbed(node):
            return self._is_int8(self._producer[node.input[0]])
        if node.op_type not in QUANTISED:
            return False
        if node.op_type not in _WEIGHTED and not self._is_quantised(node):
            return False
        data = [t for t in [node.input[0], *self._others(node)] if t not in self._constant]
        sources = [self._producer.get(t) for t in data]
        return bool(sources) and all(s is not None and s.op_type == _DEQUANTIZE for s in sources)

    def _is_quantised(self, node: onnx.NodeProto) -> bool:
        """Whether QuantizeLinear alone reads the result, behind an activation or not."""
        readers = self._readers.get(node.output[0], [])
        if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
            return self._is_quantised(readers[0])
        return bool(readers) and all(r.op_type == _QUANTIZE for r in readers)

    def _others(self, node: onnx.NodeProto) -> list[str]:
        return [] if node.op_type in _WEIGHTED else list(node.input[1:])

    def _absorbed(self, node: onnx.NodeProto) -> bool:
        """Folded into the only node in front of it."""
        source = self._producer.get(node.input[0]) if node.input else None
        if source is None or len(self._readers[node.input[0]]) > 1:
            return False
        if node.op_type in ("Relu", "Clip") and source.op_type == "BatchNormalization":
            return self._absorbed(source)
        quantised_add = source.op_type == "Add" and node.op_type in ("Relu", "Clip")
        if quantised_add:
            return self._is_int8(source)
        return node.op_type in _ABSORBED.get(source.op_type, ())


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    values = [*graph.input, *graph.value_info, *graph.output]
    found = {v.name: tuple(d.dim_value or 1 for d in v.type.tensor_type.shape.dim) for v in values}
    return found | {t.name: tuple(t.dims) for t in graph.initializer}


def _constants(graph: onnx.GraphProto, weights: Iterable[str]) -> set[str]:
    """Tensors that do not depend on the inputs (nodes come in topological order)."""
    found = {t.name for t in graph.initializer} | {"", *weights}
    for node in graph.node:
        if all(t in found for t in node.input):
            found |= set(node.output)
    return found
