from collections.abc import Callable
from dataclasses import replace

import onnx_graphsurgeon as gs
import pytest
import torch
from torch import fx

from hwprune.backend import Capabilities
from hwprune.network.run import kl, outputs
from hwprune.network.twin import to_module
from hwprune.quantize import sensitivity as under_test
from hwprune.quantize.matrices import round_matrices
from hwprune.quantize.placement import place
from hwprune.quantize.sensitivity import sensitivity
from hwprune.testing.networks import build, flat_head, residual, separable

Options = dict[str, tuple[str, ...]]


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return build(residual, separable)


@pytest.fixture(scope="module")
def options(graph: gs.Graph) -> Options:
    return {node.name: ("fp32", "int8") for node in graph.nodes}


def in_int8(options: Options) -> dict[str, str]:
    return dict.fromkeys(options, "int8")


def test_equals_quantising_that_node_alone(
    graph: gs.Graph,
    options: Options,
    capabilities: Capabilities,
    images: torch.Tensor,
    instrumented: Callable[..., fx.GraphModule],
) -> None:
    found = sensitivity(graph, options, capabilities, images)
    exact = outputs(to_module(graph), images)[0]
    assert set(found) == set(options)
    for node in place(graph, in_int8(options), capabilities).nodes:
        placement = place(graph, {node: "int8"}, capabilities)
        alone = instrumented(graph, placement=placement)
        expected = kl(exact, outputs(alone, images)[0])
        assert found[node]["int8"] == pytest.approx(expected, rel=0.02, abs=1e-7)


def test_nodes_without_an_int8_form_lose_nothing(
    graph: gs.Graph,
    options: Options,
    capabilities: Capabilities,
    images: torch.Tensor,
) -> None:
    found = sensitivity(graph, options, capabilities, images)
    relus = [node.name for node in graph.nodes if node.op == "Relu"]
    assert [found[name]["int8"] for name in relus] == [0.0] * len(relus)


def test_blocks_share_their_loss(
    graph: gs.Graph,
    options: Options,
    capabilities: Capabilities,
    images: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(under_test, "_RUNS", 1)
    found = sensitivity(graph, options, capabilities, images)
    nodes = place(graph, in_int8(options), capabilities).nodes
    assert len({found[name]["int8"] for name in nodes}) == 1


def test_kernels_of_matrices_equal_that_product_alone(
    capabilities: Capabilities, images: torch.Tensor
) -> None:
    graph = build(residual, head=flat_head)
    kernels = ("dynamic-int8", "nbits-2/32", "nbits-4/32")
    able = replace(capabilities, precisions={"Gemm": frozenset(kernels)})
    node = next(node.name for node in graph.nodes if node.op == "Gemm")
    found = sensitivity(graph, {node: ("fp32", *kernels)}, able, images)[node]
    exact = outputs(to_module(graph), images)[0]
    for kernel in kernels:
        rounded = round_matrices(to_module(graph), graph, {node: kernel}, able)
        expected = kl(exact, outputs(rounded, images)[0])
        assert found[kernel] == pytest.approx(expected, rel=0.02, abs=1e-7)
    assert found["nbits-2/32"] > found["nbits-4/32"] > found["dynamic-int8"] > 0
