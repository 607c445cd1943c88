"""Oracles: a network whose Jacobian is known, and the outputs of the real one."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.backend import Capabilities
from hwprune.network.run import inputs_of, outputs
from hwprune.network.twin import to_module
from hwprune.quantize.calibrate import best_ranges, whole_ranges
from hwprune.quantize.instrument import instrument
from hwprune.quantize.kinds import activation_bits, weight_kinds
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.placement import place
from hwprune.quantize.ranges import candidates
from hwprune.testing.networks import build, residual, separable


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return build(residual, separable)


def test_whole_ranges_are_the_ends(graph: gs.Graph, images: torch.Tensor) -> None:
    found = whole_ranges(to_module(graph), inputs_of(images), ["x"])["x"]
    assert (found.low, found.high) == (float(images.min()), float(images.max()))


def test_ranges_follow_what_outputs_depend_on(capabilities: Capabilities) -> None:
    """Outliers in a channel that nobody reads are cut, read ones are kept."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, 8, 8, generator=generator)
    x[:, 0, 0, 0] *= 300
    found = {}
    for name, scale in (("ignored", 0.0), ("read", 1.0)):
        graph = build(residual)
        first = next(node for node in graph.nodes if node.op == "Conv")
        first.inputs[1].values = first.inputs[1].values * np.float32([[[[scale]], [[1]], [[1]]]])
        twin = to_module(graph)
        found[name] = best_ranges(twin, inputs_of(x), inputs_of(x), {"x": 8})["x"]
    whole = candidates(x)["minmax"]
    assert found["ignored"].high < whole.high / 2
    assert found["read"].high > 0.7 * whole.high


def test_outputs_are_no_farther_than_with_whole_ranges(
    graph: gs.Graph, capabilities: Capabilities, images: torch.Tensor
) -> None:
    placement = place(graph, {n.name: "int8" for n in graph.nodes}, capabilities)
    kinds = weight_kinds(graph, placement, capabilities)
    twin, x = to_module(graph), inputs_of(images)
    tensors = activation_bits(graph, placement)
    whole = whole_ranges(twin, x, placement.encoded)
    best = best_ranges(twin, x, x, tensors)
    exact = outputs(twin, images)[0]
    first, second = (
        sqnr_db(exact, outputs(instrument(graph, placement, r, kinds, tensors), images)[0])
        for r in (whole, best)
    )
    assert second > first - 0.3


def test_same_seed_same_ranges(graph: gs.Graph, images: torch.Tensor) -> None:
    tensors = {node.outputs[0].name: 8 for node in graph.nodes}
    twin, x = to_module(graph), inputs_of(images)
    first, second = (best_ranges(twin, x, x, tensors, seed=3) for _ in range(2))
    assert first == second
