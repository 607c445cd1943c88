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
