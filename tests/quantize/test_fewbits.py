import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.network import linear
from hwprune.network.run import inputs_of, kl, outputs
from hwprune.network.twin import to_module
from hwprune.quantize.encodings import levels_of
from hwprune.quantize.fewbits import bit_sensitivity, round_in_place
from hwprune.testing.networks import build, flat_head, residual, separable

BITS = (1, 2, 3, 4, 5, 8)


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return build(residual, separable, head=flat_head)


@pytest.fixture(scope="module")
def nodes(graph: gs.Graph) -> list[str]:
    return list(linear.layers(to_module(graph)))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5])
def test_rounded_weights_have_so_many_levels(
    graph: gs.Graph, nodes: list[str], images: torch.Tensor, bits: int
) -> None:
    few = dict.fromkeys(nodes[1:], bits)
    twin = round_in_place(to_module(graph), few, True, inputs_of(images))
    before = linear.layers(to_module(graph))
    for name, layer in linear.layers(twin).items():
        if name == nodes[0]:
            assert torch.equal(layer.weight, before[name].weight)
            continue
        for channel in layer.weight.flatten(1):
            assert len(channel.unique()) <= len(levels_of(bits))


def test_a_loss_is_that_of_the_network_with_this_weight_rounded(
    graph: gs.Graph, nodes: list[str], images: torch.Tensor
) -> None:
    found = bit_sensitivity(graph, dict.fromkeys(nodes, BITS), True, images)
    seen, others = images[: -(len(images) // 3)], images[-(len(images) // 3) :]
    exact = outputs(to_module(graph), others)[0]
    for node in nodes:
        for bits in BITS[:-1]:
            twin = round_in_place(to_module(graph), {node: bits}, True, inputs_of(seen))
            assert found[node][bits] == pytest.approx(kl(exact, outputs(twin, others)[0]), rel=0.1)
        assert found[node][8] == 0


def test_fewer_bits_lose_more_in_all(
    graph: gs.Graph, nodes: list[str], images: torch.Tensor
) -> None:
    found = bit_sensitivity(graph, dict.fromkeys(nodes, BITS), True, images)
    lost = [sum(losses[b] for losses in found.values()) for b in BITS[:-1]]
    assert lost == sorted(lost, reverse=True)
    assert lost[-1] > 0


def test_the_network_is_left_alone(graph: gs.Graph, nodes: list[str], images: torch.Tensor) -> None:
    before = outputs(to_module(graph), images)[0]
    bit_sensitivity(graph, dict.fromkeys(nodes, BITS), True, images)
    assert torch.equal(outputs(to_module(graph), images)[0], before)
