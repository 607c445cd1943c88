"""Products that round for themselves, as onnxruntime's own operators (domain com.microsoft).

They are written as they run, with no help of the optimiser: MatMulNBits at accuracy level 4, which
rounds activations to int8, as the levels above that have kernels for 4 bits only and are slower
there; and DynamicQuantizeMatMul, which standard operators would be fused into unless two products
read one tensor. Both take the bias.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.backend import Capabilities
from hwprune.graph.matrix import bias_behind, matrix_of
from hwprune.precision import Blockwise, blockwise
from hwprune.quantize.blocks import Blocks, Bytes, quantize_blocks
from hwprune.quantize.encodings import Array
from hwprune.quantize.matrices import column_encoding, matrices

CONTRIB = "com.microsoft"
INT8_LEVEL = 4  # accuracy level of MatMulNBits: activations in int8


def lower_matrices(graph: gs.Graph, kernels: Mapping[str, str], capabilities: Capabilities) -> None:
    """Rewrites, in place, every node whose kernel rounds for itself; their names stay.

    The Add of a vector behind a MatMul is computed on the way where the target does so.
    """
    nodes = {node.name: node for node in graph.nodes}
    for name, kernel in matrices(graph, kernels, capabilities).items():
        node, kind = nodes[name], blockwise(kernel)
        matrix = matrix_of(node)
        attributes: Mapping[str, Any] = {}
        if kind is None:
            weight = _columns(name, matrix, capabilities)
        else:
            weight, attributes = _blocks(name, matrix, kind)
        bias = _taken_bias(node, graph) if kernel in capabilities.bias_fused else _own_bias(node)
        node.op = "MatMulNBits" if kind else "DynamicQuantizeMatMul"
        node.domain, node.attrs = CONTRIB, dict(attributes)
        node.inputs = [node.inputs[0], *weight, *_last_inputs(name, bias, len(matrix))]


def packed(values: Bytes, bits: int) -> Bytes:
    """Values of `bits` each along the last axis, the first in the lowest bits of a byte."""
    each = 8 // bits
    short = -values.shape[-1] % each
    filled = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, short)])
    parts = filled.reshape(*values.shape[:-1], -1, each)
    shifts = np.arange(each, dtype=np.uint8) * np.uint8(bits)
    return np.asarray(np.bitwise_or.reduce(parts << shifts, axis=-1), np.uint8)


def _columns(name: str, matrix: Array, capabilities: Capabilities) -> list[gs.Tensor]:
    """Weight `inner x outputs` and a scale for each output; no zero point."""
    encoding = column_encoding(matrix, capabilities)
    values = np.ascontiguousarray(encoding.quantize(matrix).T)
    return _constants(name, {"integers": values, "scale": encoding.scale})


def _blocks(name: str, matrix: Array, kind: Blockwise) -> tuple[list[gs.Tensor], Mapping[str, Any]]:
    """Weight, scales and zero points as MatMulNBits wants them, and its attributes."""
    found: Blocks = quantize_blocks(matrix, kind)
    constants = _constants(
        name,
        {
            "integers": packed(found.integers, kind.bits),
            "scale": found.scale.reshape(-1),
            "zero_point": packed(found.zero_point, kind.bits).reshape(-1),
        },
    )
    attributes = {
        "K": found.inner, "N": len(matrix), "bits": kind.bits, "block_size": kind.block,
        "accuracy_level": INT8_LEVEL,
    }  # fmt: skip
    return constants, attributes


def _constants(name: str, values: Mapping[str, NDArray[Any]]) -> list[gs.Tensor]:
    return [gs.Constant(f"{name}/weight/{part}", value) for part, value in values.items()]


def _own_bias(node: gs.Node) -> Array | None:
    """The row that a Gemm adds."""
    given = len(node.inputs) > 2 and node.inputs[2].name
    return np.asarray(node.inputs[2].values, np.float32) if given else None


def _taken_bias(node: gs.Node, graph: gs.Graph) -> Array | None:
    """The row that a Gemm adds, or the Add behind a MatMul, which then is gone."""
    add = bias_behind(node, graph)
    if add is None:
        return _own_bias(node)
    vector = next(t for t in add.inputs if isinstance(t, gs.Constant))
    node.outputs = list(add.outputs)
    add.inputs.clear()
    add.outputs.clear()
    return np.asarray(vector.values, np.float32)


def _last_inputs(name: str, bias: Array | None, outputs: int) -> Sequence[gs.Tensor]:
    """The bias, behind an input that neither operator is given (g_idx, b_zero_point)."""
    if bias is None:
        return ()
    row = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (outputs,)))
    return gs.Variable.empty(), gs.Constant(f"{name}/bias", row)
