"""Groups inside a network that is trained: what weighs a channel, and what nothing is left of."""

import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.graph.coupling import couple
from hwprune.graph.read import clone
from hwprune.graph.slim import slim
from hwprune.network.run import outputs
from hwprune.network.twin import to_module, write_back
from hwprune.testing import networks
from hwprune.testing.networks import build
from hwprune.train.batchnorm import fold_batchnorm, insert_batchnorm
from hwprune.train.channels import channels_of

BLOCKS = {
    "plain": (networks.plain, networks.plain),
    "residual": (networks.residual, networks.residual),
    "bottleneck": (networks.bottleneck,),
    "projection": (networks.projection,),
    "option_a": (networks.option_a,),
    "separable": (networks.separable, networks.plain),
    "shuffled": (networks.shuffled, networks.plain),
    "dense": (networks.dense, networks.plain),
    "gated": (networks.gated, networks.plain),
    "attended": (networks.attended,),
}


def network(name: str) -> tuple[gs.Graph, torch.Tensor]:
    graph = build(*BLOCKS[name], seed=3)
    shape = [16, *graph.inputs[0].shape[1:]]
    return graph, torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("normed", [False, True])
def test_a_channel_of_which_nothing_is_left_is_a_slim_network(name: str, normed: bool) -> None:
    graph, x = network(name)
    coupling, module = couple(graph), to_module(graph)
    if normed:
        insert_batchnorm(module, (x,), 16)
    found = channels_of(module, graph, coupling.prunable)
    assert set(found) == {group.name for group in coupling.prunable}
    keep = {}
    for group in coupling.prunable:
        stays = torch.arange(group.width) % 3 != 1
        stays[0] = True
        found[group.name].shrink(stays.float())
        keep[group.name] = stays.nonzero().ravel().tolist()
    masked = module(x).detach()
    if normed:
        fold_batchnorm(module)
    trained = clone(graph)
    write_back(module, trained)
    slimmed = to_module(slim(trained, coupling, keep))
    assert sum(p.numel() for p in slimmed.parameters()) < sum(
        p.numel() for p in module.parameters()
    )
    torch.testing.assert_close(outputs(slimmed, x)[0], masked, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BLOCKS)
def test_norms_are_those_of_the_folded_filters(name: str) -> None:
    """With BatchNorm behind a filter its own length says nothing."""
    graph, x = network(name)
    coupling, module = couple(graph), to_module(graph)
    plain = channels_of(module, graph, coupling.prunable)
    expected = {g: (c.norms(1), c.norms(2)) for g, c in plain.items()}
    insert_batchnorm(module, (x,), 16)
    inserted = channels_of(module, graph, coupling.prunable)
    for group, (first, second) in expected.items():
        torch.testing.assert_close(inserted[group].norms(1), first, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(inserted[group].norms(2), second, rtol=1e-3, atol=1e-5)
        inserted[group].multiply(torch.full((len(first),), 0.5))
        torch.testing.assert_close(inserted[group].norms(1), first / 2, rtol=1e-3, atol=1e-5)
        inserted[group].multiply(torch.full((len(first),), 2.0))  # rows may be of two groups
