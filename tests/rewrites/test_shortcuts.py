import numpy as np
import pytest
import torch

from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.rewrites.shortcuts import convolve_shortcuts
from hwprune.testing.networks import Block, build, option_a, projection, residual, window


def ops(graph: object) -> list[str]:
    return [node.op for node in graph.nodes]  # type: ignore[attr-defined]


def test_option_a_shortcut_becomes_a_convolution(images: torch.Tensor) -> None:
    graph = build(option_a, residual, option_a)
    rewritten = convolve_shortcuts(graph)
    assert not {"Slice", "Pad"} & set(ops(rewritten))
    assert ops(rewritten).count("Conv") == ops(graph).count("Conv") + 2
    pair = (outputs(to_module(g), images)[0] for g in (graph, rewritten))
    torch.testing.assert_close(*pair, rtol=0, atol=1e-6)


def test_slim_shortcuts_are_rewritten_too(images: torch.Tensor) -> None:
    graph = build(option_a)
    coupling = couple(graph)
    keep = {g.name: tuple(range(1, g.width)) for g in coupling.prunable}
    slimmed = slim(graph, coupling, keep)
    pair = (outputs(to_module(g), images)[0] for g in (slimmed, convolve_shortcuts(slimmed)))
    torch.testing.assert_close(*pair, rtol=0, atol=1e-6)


@pytest.mark.parametrize("block", [residual, projection, window])
def test_other_networks_stay_as_they_are(block: Block) -> None:
    graph = build(block)
    assert ops(convolve_shortcuts(graph)) == ops(graph)


def test_the_original_is_left_unchanged() -> None:
    graph = build(option_a)
    before = ops(graph)
    convolve_shortcuts(graph)
    assert ops(graph) == before


def test_selection_weights_are_zero_or_one() -> None:
    rewritten = convolve_shortcuts(build(option_a))
    weights = [t.values for t in rewritten.tensors().values() if t.name.endswith("/selection")]
    assert len(weights) == 1
    assert set(np.unique(weights[0])) == {0, 1}
    assert (weights[0].sum(axis=(1, 2, 3)) <= 1).all()
