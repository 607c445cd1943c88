"""Which products are plain, and which bias belongs to them."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from hwprune.graph.matrix import bias_behind, is_plain, matrix_of

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def product(op="Gemm", weight=WEIGHT, bias=None, data=(2, 4), **attrs):
    x = gs.Variable("x", np.float32, data)
    y = gs.Variable("y", np.float32, (*data[:-1], 3))
    inputs = [x, gs.Constant("w", weight)]
    inputs += [] if bias is None else [gs.Constant("b", bias)]
    return gs.Node(op, "product", attrs, inputs, [y])


def added(vector, op="Add", more=False, leaves=False, data=(2, 4)):
    """A MatMul and what stands behind it, as (product, graph)."""
    node = product("MatMul", data=data)
    (middle,) = node.outputs
    outputs = [gs.Variable("z", np.float32, np.broadcast_shapes(middle.shape, vector.shape))]
    nodes = [node, gs.Node(op, "behind", {}, [middle, gs.Constant("v", vector)], outputs)]
    if more:
        outputs.append(gs.Variable("n", np.float32, middle.shape))
        nodes.append(gs.Node("Neg", "other", {}, [middle], [outputs[1]]))
    return node, gs.Graph(nodes, [node.inputs[0]], outputs + ([middle] if leaves else []))


ROW, MATRIX = np.ones(3, np.float32), np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("node", "plain"),
    [
        (product(), True),
        (product(bias=ROW), True),
        (product(bias=ROW[None]), True),
        (product("MatMul"), True),
        (product("MatMul", data=(1, 2, 4)), True),
        (product(transB=1, weight=WEIGHT.T), True),
        (product(bias=MATRIX), False),
        (product(bias=np.ones(1, np.float32)), False),
        (product(alpha=0.5), False),
        (product(transA=1), False),
        (product("MatMul", data=(4,)), False),
        (product("MatMul", weight=WEIGHT[None]), False),
        (product("Conv"), False),
    ],
)
def test_plain_products(node, plain):
    assert is_plain(node) is plain


def test_a_matrix_that_another_node_reads_is_not_plain():
    node = product()
    gs.Node("Neg", "other", {}, [node.inputs[1]], [gs.Variable("n", np.float32, (4, 3))])
    assert not is_plain(node)


def test_matrices_have_outputs_first():
    np.testing.assert_array_equal(matrix_of(product()), WEIGHT.T)
    np.testing.assert_array_equal(matrix_of(product(weight=WEIGHT.T, transB=1)), WEIGHT.T)


@pytest.mark.parametrize("data", [(2, 4), (1, 2, 4)])
def test_the_add_of_a_vector_is_the_bias(data):
    node, graph = added(ROW, data=data)
    assert bias_behind(node, graph) is graph.nodes[1]


@pytest.mark.parametrize(
    "case", [{"vector": MATRIX}, {"op": "Mul"}, {"more": True}, {"leaves": True}], ids=str
)
def test_what_is_no_bias(case):
    node, graph = added(**{"vector": ROW, **case})
    assert bias_behind(node, graph) is None
