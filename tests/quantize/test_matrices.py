"""Products that round for themselves, in the twin: against ONNX's own definition, and by hand."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from hwprune.backend import Capabilities
from hwprune.graph.read import clone
from hwprune.network.run import outputs
from hwprune.network.twin import to_module, write_back
from hwprune.quantize.matrices import (
    RoundedLinear,
    matrices,
    round_by_blocks,
    round_by_call,
    round_matrices,
)
from hwprune.testing.networks import build, flat_head, residual

KERNELS = ("dynamic-int8", "nbits-4/32")


@pytest.fixture
def able(capabilities: Capabilities) -> Capabilities:
    return replace(capabilities, precisions={"Gemm": frozenset(KERNELS)})


@pytest.fixture
def graph() -> gs.Graph:
    return build(residual, head=flat_head)


def product(graph: gs.Graph) -> str:
    return str(next(node.name for node in graph.nodes if node.op == "Gemm"))


def test_a_call_is_rounded_as_onnx_defines_it():
    x = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    x[2] = x[2].abs()  # a range that does not hold zero is widened to it
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 2, 5)) for n in "xy"]
    graph = helper.make_graph(nodes, "rounding", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model)
    reference = ReferenceEvaluator(model)
    expected = [reference.run(None, {"x": part[None].numpy()})[0] for part in x]
    np.testing.assert_allclose(
        round_by_call(x, rows=1).numpy(), np.concatenate(expected), atol=1e-6
    )
    assert not torch.equal(round_by_call(x, rows=3), round_by_call(x, rows=1))


def test_blocks_of_a_row_are_rounded_by_their_largest():
    x = torch.tensor([[1.0, -127.0, 0.4, 0.6, 2.0, 0.0]])
    found = round_by_blocks(x, 4)
    assert found.tolist() == [[1.0, -127.0, 0.0, 1.0, 2.0, 0.0]]


def test_what_the_target_has_not_stays_as_it_is(graph, able):
    node = product(graph)
    everything = dict.fromkeys((n.name for n in graph.nodes), "nbits-4/32")
    assert matrices(graph, everything, able) == {node: "nbits-4/32"}
    assert matrices(graph, {node: "nbits-8/32"}, able) == {}
    assert matrices(graph, {node: "int8"}, able) == {}


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_pass_the_rounding(graph, able, images, kernel):
    node = product(graph)
    exact = to_module(graph)
    rounded = round_matrices(to_module(graph), graph, {node: kernel}, able)
    found = []
    for module in (exact, rounded):
        module(images).square().sum().backward()
        found.append(dict(module.named_parameters()))
    for name, parameter in found[0].items():
        ours = found[1][name].grad
        assert ours.norm() == pytest.approx(parameter.grad.norm(), rel=0.25)
        assert torch.cosine_similarity(ours.flatten(), parameter.grad.flatten(), dim=0) > 0.97


def test_the_weight_that_is_trained_is_rounded_anew_and_written_back(graph, able, images):
    node = product(graph)
    module = round_matrices(to_module(graph), graph, {node: "nbits-4/32"}, able)
    before = outputs(module, images)[0]
    (layer,) = (m for m in module.modules() if isinstance(m, RoundedLinear))
    with torch.no_grad():
        layer.weight.mul_(2)
    assert not torch.equal(outputs(module, images)[0], before)
    written = clone(graph)
    write_back(module, written)
    now, then = (
        next(n for n in g.nodes if n.name == node).inputs[1].values for g in (written, graph)
    )
    np.testing.assert_array_equal(now, 2 * then)
