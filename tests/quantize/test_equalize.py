import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.quantize.equalize import equalized
from hwprune.testing.networks import (
    Block,
    build,
    dense,
    plain,
    residual,
    separable,
    shuffled,
)


def uneven(graph: gs.Graph) -> gs.Graph:
    """Channels of very different ranges, as folded batch normalisation leaves them."""
    rng = np.random.default_rng(0)
    for node in graph.nodes:
        if node.op == "Conv":
            weight = node.inputs[1].values
            widths = np.exp(rng.normal(0, 1.5, (len(weight), 1, 1, 1)))
            node.inputs[1].values = (weight * widths).astype(np.float32)
    return graph


@pytest.mark.parametrize("block", [plain, residual, separable, shuffled])
def test_the_function_stays(block: Block, images: torch.Tensor) -> None:
    graph = uneven(build(block, block))
    found = equalized(graph)
    assert found is not None
    expected, got = (outputs(to_module(g), images)[0] for g in (graph, found))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    before = {n.name: n.inputs[1].values for n in graph.nodes if n.op == "Conv"}
    after = {n.name: n.inputs[1].values for n in found.nodes if n.op == "Conv"}
    assert sum(not np.array_equal(after[name], before[name]) for name in before) >= 2
    assert {weight.dtype for weight in after.values()} == {np.dtype(np.float32)}


def test_ranges_of_a_pair_become_equal() -> None:
    found = equalized(uneven(build(separable)))
    assert found is not None
    stem, depthwise = [node for node in found.nodes if node.op == "Conv"][:2]
    assert depthwise.attrs["group"] > 1
    first, second = (np.abs(n.inputs[1].values).max((1, 2, 3)) for n in (stem, depthwise))
    np.testing.assert_allclose(first, second, rtol=1e-3)


def test_a_bounded_activation_ends_a_pair() -> None:
    """Relu6 is no longer the same function of scaled channels."""
    graph = uneven(build(separable))
    found = equalized(graph)
    assert found is not None
    before, after = ([n for n in g.nodes if n.op == "Conv"][2] for g in (graph, found))
    np.testing.assert_array_equal(before.inputs[1].values, after.inputs[1].values)


def test_dead_channels_stay() -> None:
    graph = build(separable)
    for node in graph.nodes:
        if node.op == "Conv":
            node.inputs[1].values[1] = 0
    found = equalized(graph)
    assert found is not None
    for node in found.nodes:
        if node.op == "Conv":
            assert np.isfinite(node.inputs[1].values).all()
            assert not node.inputs[1].values[1].any()


def test_without_pairs_there_is_nothing_to_do() -> None:
    assert equalized(build(dense)) is None
