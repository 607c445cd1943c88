"""Writes a network with its quantisers as the file that onnxruntime runs with integer kernels.

Every quantised tensor gets one QuantizeLinear/DequantizeLinear pair. Behind an int8 node the pair
stands in the tensor's place, so that everybody reads the quantised value; before an int8 node it
stands beside the fp32 tensor, which others go on reading. Weights are stored as integers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.backend import Capabilities
from hwprune.export.matrices import lower_matrices
from hwprune.graph.cost import output_axis
from hwprune.graph.read import clone
from hwprune.quantize.encodings import Array, Encoding, Encodings
from hwprune.quantize.placement import Placement, bounds, data_inputs, place, products

_BIAS_STEPS = 2.0**30  # an int32 bias may be this many steps of input scale x weight scale


def lower(
    graph: gs.Graph, kernels: Mapping[str, str], encodings: Encodings, capabilities: Capabilities
) -> onnx.ModelProto:
    """The file to deploy, in QDQ form.

    Args:
        graph: Canonical graph; left unchanged.
        kernels: Per node name (see `hwprune.precision`); nodes left out run fp32.
        encodings: Of every tensor that `place` encodes and every weight of an int8 node.
        capabilities: Of the target.
    """
    placement = place(graph, kernels, capabilities)
    lowered = clone(graph)
    _Lowering(lowered, placement, encodings).run()
    lower_matrices(lowered, kernels, capabilities)
    # As it is: ONNX cannot infer the shapes behind operators that are not its own.
    model: onnx.ModelProto = gs.export_onnx(lowered.cleanup().toposort())
    return model


class _Lowering:
    """Rewrites one graph in place."""

    def __init__(self, graph: gs.Graph, placement: Placement, encodings: Encodings) -> None:
        self.graph = graph
        self.placement = placement
        self.encodings = encodings
        self.shared: dict[str, list[gs.Constant]] = {}

    def run(self) -> None:
        nodes = {node.name: node for node in self.graph.nodes}
        tensors = self.graph.tensors()
        for node in products(self.graph, self.placement):
            self._quantize_product(node)
        for name in self.placement.folded.values():
            self._drop_saturated(nodes[name])
        for name in self.placement.made:
            self._quantize_behind(tensors[name])
        for name in self.placement.read:
            self._quantize_before(tensors[name])

    def _quantize_product(self, node: gs.Node) -> None:
        """Weight as int8 and bias as int32 constants, each behind a DequantizeLinear."""
        weight = node.inputs[1]
        bias = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].name else None
        input_scale = self._encoding(node.inputs[0].name).scale
        channels = weight.shape[output_axis(node)]
        encoding = self._weight_encoding(node, bias, input_scale)
        axis = {} if encoding.axis is None else {"axis": encoding.axis}
        zeros = np.zeros(encoding.scale.shape, np.int8)
        constants = (encoding.quantize(weight.values), encoding.scale, zeros)
        node.inputs[1] = self._dequantized(f"{node.name}/weight", constants, axis)
        if bias is not None:
            scale = (encoding.scale * input_scale).astype(np.float32)
            values = np.broadcast_to(bias.values.reshape(-1), (channels,))
            steps = np.rint(values.astype(np.float64) / scale).astype(np.int32)
            axis = {"axis": 0} if scale.ndim else {}
            node.inputs[2] = self._dequantized(f"{node.name}/bias", (steps, scale), axis)

    def _weight_encoding(
        self, node: gs.Node, bias: gs.Constant | None, input_scale: Array
    ) -> Encoding:
        """The weight's encoding, coarser where the bias would not fit into an int32.

        That happens to channels that are dead but for their bias; their weights are then so small
        beside it (2^-15) that rounding them to zero changes nothing.
        """
        encoding = self.encodings.weights[node.inputs[1].name]
        if bias is None:
            return encoding
        least = np.abs(bias.values.reshape(-1)) / (input_scale * _BIAS_STEPS)
        scale = np.maximum(encoding.scale, least if encoding.scale.ndim else least.max())
        return Encoding(scale.astype(np.float32), encoding.zero_point, encoding.axis,
                        encoding.bits, encoding.signed)  # fmt: skip

    def _drop_saturated(self, activation: gs.Node) -> None:
        """Removes a Relu or Clip whose bounds the quantiser behind it enforces anyway.

        Exact: a value at the bound already rounds to the last integer on that side.
        """
        out = activation.outputs[0]
        encoding = self._encoding(out.name)
        low, high = np.rint(np.array(bounds(activation)) / encoding.scale) + encoding.zero_point
        if low > encoding.lowest or high < encoding.highest:
            return
        producer = activation.inputs[0].inputs[0]
        activation.inputs.clear()
        activation.outputs.clear()
        producer.outputs = [out]

    def _quantize_behind(self, tensor: gs.Variable) -> None:
        """Splices in: producer -> raw -> Q -> DQ -> tensor."""
        producer = tensor.inputs[0]
        raw = gs.Variable(f"{tensor.name}/raw", tensor.dtype, tensor.shape)
        producer.outputs = [raw if out is tensor else out for out in producer.outputs]
        self._pair(raw, tensor, tensor.name)

    def _quantize_before(self, tensor: gs.Variable) -> None:
        """Adds: tensor -> Q -> DQ -> the int8 readers; the others keep reading `tensor`."""
        readers = {n.name: n for n in tensor.outputs if n.name in self.placement.nodes}
        target = gs.Variable(f"{tensor.name}/dequantized", tensor.dtype, tensor.shape)
        for node in readers.values():
            data = {id(t) for t in data_inputs(node)} & {id(tensor)}
            node.inputs = [target if id(t) in data else t for t in node.inputs]
        self._pair(tensor, target, tensor.name)

    def _pair(self, source: gs.Variable, target: gs.Variable, name: str) -> None:
        parameters = self._parameters(self.placement.root(name))
        integers = gs.Variable(f"{name}/quantized", np.uint8, source.shape)
        self._add("QuantizeLinear", [source, *parameters], integers)
        self._add("DequantizeLinear", [integers, *parameters], target)

    def _parameters(self, root: str) -> list[gs.Constant]:
        if root not in self.shared:
            encoding = self._encoding(root)
            self.shared[root] = [
                gs.Constant(f"{root}/scale", np.asarray(encoding.scale, np.float32)),
                gs.Constant(f"{root}/zero_point", np.asarray(encoding.zero_point, np.uint8)),
            ]
        return self.shared[root]

    def _encoding(self, tensor: str) -> Encoding:
        return self.encodings.activations[self.placement.root(tensor)]

    def _dequantized(
        self, name: str, constants: Sequence[NDArray[Any]], attributes: Mapping[str, Any]
    ) -> gs.Variable:
        parts = zip(("integers", "scale", "zero_point"), constants, strict=False)
        inputs = [gs.Constant(f"{name}/{part}", np.asarray(value)) for part, value in parts]
        out = gs.Variable(name, np.float32, inputs[0].shape)
        self._add("DequantizeLinear", inputs, out, attributes)
        return out

    def _add(
        self,
        op: str,
        inputs: list[gs.Tensor],
        output: gs.Variable,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        name = f"{output.name}/{op}"
        self.graph.nodes.append(gs.Node(op, name, dict(attributes or {}), inputs, [output]))
