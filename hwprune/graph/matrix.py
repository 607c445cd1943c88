"""Products with one constant matrix, and the bias behind them."""

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray


def is_plain(node: gs.Node) -> bool:
    """Whether `node` is a Gemm or MatMul of fp32 activations with a constant matrix on the right.

    The matrix is read by nobody else, nothing is scaled or transposed on the left, and the bias of
    a Gemm, if any, is a constant row.
    """
    if node.op not in ("Gemm", "MatMul") or not isinstance(node.inputs[1], gs.Constant):
        return False
    data, matrix = node.inputs[:2]
    if isinstance(data, gs.Constant) or data.dtype != np.float32 or len(data.shape) < 2:
        return False
    if len(matrix.shape) != 2 or len(matrix.outputs) != 1:
        return False
    scaled = any(node.attrs.get(name, 1.0) != 1.0 for name in ("alpha", "beta"))
    return _has_plain_bias(node) and not scaled and not node.attrs.get("transA", 0)


def matrix_of(node: gs.Node) -> NDArray[np.float32]:
    """The weight of a plain product, `outputs x inputs`."""
    values: NDArray[np.float32] = node.inputs[1].values
    return values if node.attrs.get("transB", 0) else values.T


def bias_behind(node: gs.Node, graph: gs.Graph) -> gs.Node | None:
    """The Add of a constant vector that alone reads what a MatMul with a matrix computes."""
    if node.op != "MatMul" or not isinstance(node.inputs[1], gs.Constant):
        return None
    product = node.outputs[0]
    if len(node.inputs[1].shape) != 2 or len(product.outputs) != 1:
        return None
    add = product.outputs[0]
    if add.op != "Add" or any(product is t for t in graph.outputs):
        return None
    if tuple(add.outputs[0].shape) != tuple(product.shape):
        return None
    vectors = [t for t in add.inputs if isinstance(t, gs.Constant) and len(t.shape) == 1]
    return add if len(vectors) == 1 else None


def _has_plain_bias(node: gs.Node) -> bool:
    bias = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].name else None
    if bias is None:
        return True
    columns = (node.outputs[0].shape[-1],)
    row = isinstance(bias, gs.Constant) and tuple(bias.shape[-1:]) == columns
    return row and bias.values.size == columns[0]
