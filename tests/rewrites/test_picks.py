from hwprune.graph.cost import macs
from hwprune.rewrites.picks import pick_early
from hwprune.rewrites.table import alike
from hwprune.testing.networks import build, residual, window


def test_tokens_that_nobody_reads_are_not_computed(transformer, check) -> None:
    after = pick_early(transformer)
    assert macs(after) < 0.9 * macs(transformer)
    products = [n for n in after.nodes if n.op == "MatMul"]
    assert products[-1].outputs[0].shape[1] == 1  # the last MLP: one row
    assert products[0].outputs[0].shape[1] == 64
    check(transformer, after)


def test_picks_of_channels_and_networks_without_picks_stay() -> None:
    for graph in (build(window), build(residual)):
        assert alike(graph, pick_early(graph))
