import pytest
import torch

from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.network.run import divergence, outputs
from hwprune.network.twin import to_module
from hwprune.pruning.reconstruct import FINAL, Reference
from hwprune.pruning.statistics import collect
from hwprune.rewrites.rows import flatten_sequences
from hwprune.rewrites.table import alike
from hwprune.testing.networks import attended, build, layer_normed, residual


def test_layers_on_sequences_become_layers_on_rows(transformer, check) -> None:
    after = flatten_sequences(transformer)
    weighted = [n for n in after.nodes if n.op == "MatMul" and "c" in n.inputs[1].name]
    ranks = {len(n.outputs[0].shape) for n in after.nodes if n.op == "LayerNormalization"}
    assert ranks == {2}
    assert {len(n.outputs[0].shape) for n in weighted if len(n.inputs[1].shape) == 2} == {2}
    check(transformer, after)


def test_images_with_their_channels_behind_become_rows_too(check) -> None:
    graph = build(layer_normed)
    after = flatten_sequences(graph)
    assert not alike(graph, after)
    check(graph, after)


def test_networks_without_sequences_stay() -> None:
    graph = build(residual)
    assert alike(graph, flatten_sequences(graph))


def test_products_that_stand_alone_stay() -> None:
    graph = build(attended)
    after = flatten_sequences(graph)
    assert sum(n.op == "Reshape" for n in after.nodes) >= sum(
        n.op == "Reshape" for n in graph.nodes
    )


def test_statistics_count_samples_and_not_rows(transformer, images) -> None:
    """What ranks channels must not depend on whether a sample's places are an axis or rows."""
    before, after = (
        collect(graph, images, seed=0) for graph in (transformer, flatten_sequences(transformer))
    )
    assert before.keys() == after.keys()
    for name, wanted in before.items():
        found = after[name]
        assert (found.samples, found.positions) == (wanted.samples, wanted.positions)
        torch.testing.assert_close(found.silencing, wanted.silencing, rtol=1e-3, atol=1e-9)


def test_a_repaired_network_is_as_good_on_rows(transformer, images) -> None:
    """Half of all channels gone, the layers behind them refitted by least squares."""
    losses = []
    for graph in (transformer, flatten_sequences(transformer)):
        coupling = couple(graph)
        keep = {g.name: range(g.width // 2) for g in coupling.prunable}
        slimmed = slim(graph, coupling, keep)
        Reference(graph, coupling, images, 0, FINAL).reconstruct(slimmed, keep)
        answers = (outputs(to_module(g), images) for g in (graph, slimmed))
        losses.append(divergence(*answers))
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
