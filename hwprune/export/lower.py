"""Writes a network with its quantisers as the file that onnxruntime runs with integer kernels.

Every quantised tensor gets one QuantizeLinear/DequantizeLinear pair. Behind an int8 node the pair
stands in the tensor's place, so that everybody reads the quantised value; before an int8 node it
stands beside the fp32 tensor, which others go on reading. Weights are stored as integers, in as
few bits as they have (see `storage`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.backend import Capabilities
from hwprune.errors import UnsupportedModelError
from hwprune.export.matrices import lower_matrices
from hwprune.export.narrow import Steps, in_bytes
from hwprune.export.storage import Storage
from hwprune.graph.cost import output_axis
from hwprune.graph.read import clone
from hwprune.quantize.encodings import Array, Encoding, Encodings, Integers, levels_of
from hwprune.quantize.placement import Placement, bounds, data_inputs, place, products

_OLDEST = 13  # opset: per-channel scales, and the operators that decode weights
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

    Returns:
        The model in the graph's own opset, without the shapes of inner tensors: runtimes infer
        them, and they would be bytes.

    Raises:
        UnsupportedModelError: The graph's opset is too old for what the file would hold.
    """
    if graph.opset < _OLDEST:
        raise UnsupportedModelError(
            f"opset {graph.opset} cannot hold quantised weights: a scale per channel, and the "
            f"operators that decode weights of fewer than 8 bits, are of opset {_OLDEST}",
            "read the file with hwprune.graph.read, which brings it to opset 17 or newer",
        )
    placement = place(graph, kernels, capabilities)
    lowered = clone(graph)
    _Lowering(lowered, placement, encodings, capabilities.weight_bits).run()
    lower_matrices(lowered, kernels, capabilities)
    # As it is: ONNX cannot infer the shapes behind operators that are not its own.
    model: onnx.ModelProto = gs.export_onnx(lowered.cleanup().toposort())
    del model.graph.value_info[:]
    return model


class _Lowering:
    """Rewrites one graph in place."""

    def __init__(
        self, graph: gs.Graph, placement: Placement, encodings: Encodings, weight_bits: int
    ) -> None:
        self.graph = graph
        self.largest = int(levels_of(weight_bits)[-1])
        self.placement = placement
        self.encodings = encodings
        self.storage = Storage(graph)
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
        least = _least_steps(bias, input_scale, channels)
        encoding = self._weight_encoding(weight.name, least)
        factor = self._stretches(encoding, least)
        axis = {} if encoding.axis is None else {"axis": encoding.axis}
        name, shape = f"{node.name}/weight", (-1, *[1] * (weight.values.ndim - 1))
        stretch = np.moveaxis(factor.reshape(shape), 0, encoding.axis or 0)
        integers = encoding.quantize(weight.values) * stretch
        stored = self._stored(f"{name}/integers", integers, encoding, factor)
        steps, zeros = encoding.scale / factor, np.zeros(encoding.scale.shape, np.int8)
        node.inputs[1] = self._dequantized(name, stored, axis, steps, zeros)
        if bias is not None:
            scale = (steps * input_scale).astype(np.float32)
            values = np.broadcast_to(bias.values.reshape(-1), (channels,))
            steps = np.rint(values.astype(np.float64) / scale).astype(np.int32)
            name, axis = f"{node.name}/bias", {"axis": 0} if scale.ndim else {}
            stored = gs.Constant(f"{name}/integers", steps)
            node.inputs[2] = self._dequantized(name, stored, axis, scale)

    def _stored(
        self, name: str, integers: Integers, encoding: Encoding, factor: NDArray[np.int8]
    ) -> gs.Tensor:
        """The integers of a weight, each output in as few bits as it has."""
        if not encoding.parts:
            return self.storage.add(name, integers, encoding.levels * factor)
        parts = [(index, part.levels * factor[index[0]]) for index, part in encoding.parts]
        return self.storage.add_parts(name, integers, encoding.axis or 0, parts)

    def _weight_encoding(self, weight: str, least: Array) -> Encoding:
        """The weight's encoding, coarser where the bias would not fit into an int32.

        That happens to channels that are dead but for their bias; their weights are then so small
        beside it (2^-15) that rounding them to zero changes nothing, nor does making them as large
        as the new scale where zero is none of their levels (1 bit).
        """
        encoding = self.encodings.weights[weight]
        scale = np.maximum(encoding.scale, least if encoding.scale.ndim else least.max())
        return replace(encoding, scale=scale.astype(np.float32))

    def _stretches(self, encoding: Encoding, least: Array) -> NDArray[np.int8]:
        """`_stretch` of the weight, or of each output: the same for all of one width."""
        if not encoding.parts:
            return np.array(self._stretch(encoding, least), np.int8)
        factors = np.empty(encoding.scale.shape, np.int8)
        for index, part in encoding.parts:
            factors[index] = self._stretch(part, least[index])
        return factors

    def _stretch(self, encoding: Encoding, least: Array) -> int:
        """Times what the integers of few bits are as large as the target's kernels take them, the
        steps so much finer. Weights stay what they are; biases are rounded to steps of both scales,
        which few bits on either side make coarse.
        """
        factor = self.largest // int(np.abs(encoding.levels.astype(np.int64)).max())
        room = encoding.scale / np.maximum(least, 1e-30)
        return max(1, int(min(factor, room.min())))

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
        """Adds: source -> Q -> DQ -> target, with a Clip between for fewer than 8 bits.

        What passes integers on that were clipped already clips nothing.
        """
        root = self.placement.root(name)
        form = in_bytes(self._encoding(root))
        read = self._steps(root, form.read)
        integers = gs.Variable(f"{name}/quantized", np.uint8, source.shape)
        if form.bounds is None or name != root:
            self._add("QuantizeLinear", [source, *read], integers)
        else:
            made = read if form.made == form.read else self._steps(f"{root}/made", form.made)
            rounded = gs.Variable(f"{name}/rounded", np.uint8, source.shape)
            self._add("QuantizeLinear", [source, *made], rounded)
            self._add("Clip", [rounded, *self._bounds(name, form.bounds)], integers)
        self._add("DequantizeLinear", [integers, *read], target)

    def _steps(self, name: str, steps: Steps) -> list[gs.Constant]:
        if name not in self.shared:
            self.shared[name] = [
                gs.Constant(f"{name}/scale", np.asarray(steps.scale, np.float32)),
                gs.Constant(f"{name}/zero_point", np.asarray(steps.zero_point, np.uint8)),
            ]
        return self.shared[name]

    def _bounds(self, name: str, bounds: tuple[int, int]) -> list[gs.Constant]:
        ends = zip(("lowest", "highest"), bounds, strict=True)
        return [gs.Constant(f"{name}/{end}", np.asarray(value, np.uint8)) for end, value in ends]

    def _encoding(self, tensor: str) -> Encoding:
        return self.encodings.activations[self.placement.root(tensor)]

    def _dequantized(
        self, name: str, integers: gs.Tensor, attributes: Mapping[str, Any], *steps: NDArray[Any]
    ) -> gs.Variable:
        """`steps` are the scale and, if there is one, the zero point."""
        parts = zip(("scale", "zero_point"), steps, strict=False)
        constants = [gs.Constant(f"{name}/{part}", np.asarray(value)) for part, value in parts]
        out = gs.Variable(name, np.float32)
        self._add("DequantizeLinear", [integers, *constants], out, attributes)
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


def _least_steps(bias: gs.Constant | None, input_scale: Array, channels: int) -> Array:
    """Of a weight, per channel, with which its bias fits into an int32; zero without one."""
    size = np.zeros(1) if bias is None else np.abs(bias.values.reshape(-1))
    steps = np.asarray(size / (input_scale * _BIAS_STEPS), np.float32)
    return np.broadcast_to(steps, (channels,))
