from collections.abc import Callable

import onnx_graphsurgeon as gs
import pytest
import torch
from torch import fx

from hwprune.backend import Capabilities
from hwprune.network.run import kl, outputs
from hwprune.network.twin import to_module
from hwprune.quantize import sensitivity as under_test
from hwprune.quantize.placement import place
from hwprune.quantize.sensitivity import sensitivity
from hwprune.testing.networks import build, residual, separable


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return build(residual, separable)


@pytest.fixture(scope="module")
def kernels(graph: gs.Graph) -> dict[str, str]:
    return {node.name: "int8" for node in graph.nodes}


def test_equals_quantising_that_node_alone(
    graph: gs.Graph,
    kernels: dict[str, str],
    capabilities: Capabilities,
    images: torch.Tensor,
    instrumented: Callable[..., fx.GraphModule],
) -> None:
    found = sensitivity(graph, kernels, capabilities, images)
    exact = outputs(to_module(graph), images)[0]
    assert set(found) == set(kernels)
    for node in place(graph, kernels, capabilities).nodes:
        placement = place(graph, {node: "int8"}, capabilities)
        alone = instrumented(graph, placement=placement)
        expected = kl(exact, outputs(alone, images)[0])
        assert found[node] == pytest.approx(expected, rel=0.02, abs=1e-7)


def test_nodes_without_an_int8_form_lose_nothing(
    graph: gs.Graph, kernels: dict[str, str], capabilities: Capabilities, images: torch.Tensor
) -> None:
    found = sensitivity(graph, kernels, capabilities, images)
    relus = [node.name for node in graph.nodes if node.op == "Relu"]
    assert [found[name] for name in relus] == [0.0] * len(relus)


def test_blocks_share_their_loss(
    graph: gs.Graph,
    kernels: dict[str, str],
    capabilities: Capabilities,
    images: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(under_test, "_RUNS", 1)
    found = sensitivity(graph, kernels, capabilities, images)
    nodes = place(graph, kernels, capabilities).nodes
    assert len({found[name] for name in nodes}) == 1
