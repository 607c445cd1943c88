"""The relaxed choice: the paper's theta, gates that cut, and costs that see both ends."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.backend import Capabilities
from hwprune.differentiable.channelwise import Bits, Presence
from hwprune.differentiable.costs import COSTS, size_bits
from hwprune.differentiable.mixed import Mixture
from hwprune.frontend.dataset import DataSet
from hwprune.graph.channels import Coupling
from hwprune.graph.slim import slim
from hwprune.network.twin import to_module
from hwprune.quantize.calibrate import whole_ranges
from hwprune.quantize.instrument import instrument
from hwprune.quantize.kinds import activation_bits, weight_kinds
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.placement import place

INNER = "node_conv2d_1"


def test_presence_times_share_is_the_softmax_over_all_bits() -> None:
    bits = Bits((2, 4, 8), 6)
    presence = Presence(6, 0, [(bits, torch.arange(6)[:, None])])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        bits.logits.normal_(generator=generator)
        presence.zero.normal_(generator=generator)
        bits.temperature.fill_(0.3)
        presence.temperature.fill_(0.3)
    theta = torch.softmax(torch.cat([presence.zero[None], bits.logits]) / 0.3, 0)
    torch.testing.assert_close(presence.kept(), 1 - theta[0])
    torch.testing.assert_close(presence.kept() * bits.shares(), theta[1:])
    likeliest = torch.cat([presence.zero[None], bits.logits]).argmax(0)
    assert torch.equal(presence.eval().kept() > 0, likeliest > 0)


def test_logits_start_where_the_paper_starts_them() -> None:
    torch.testing.assert_close(Bits((2, 4, 8), 1).logits[:, 0], torch.tensor([0.25, 0.5, 1.0]))


def test_a_group_keeps_what_is_protected() -> None:
    presence = Presence(5, 2, [])
    with torch.no_grad():
        presence.zero.copy_(torch.tensor([9.0, 3.0, 7.0, 2.0, 8.0]))
    assert presence.eval().kept().tolist() == [0, 1, 0, 1, 0]


def test_gated_is_slim(
    original: gs.Graph,
    coupling: Coupling,
    capabilities: Capabilities,
    data: DataSet,
    kernels: dict[str, str],
) -> None:
    """With {0, 8} it is a channel pruner: what is switched off may be cut out."""
    x = torch.from_numpy(data.x[:32])
    placement = place(original, kernels, capabilities)
    tensors = activation_bits(original, placement)
    ranges = whole_ranges(to_module(original), (x,), tensors)
    kinds = weight_kinds(original, placement, capabilities)
    module = instrument(original, placement, ranges, kinds, tensors)
    found = Mixture(module, original, coupling, (0, 8))
    with torch.no_grad():
        for group in coupling.prunable:
            found._presence(group).zero[1::3] = 5.0
    keep = {g.name: [c for c in range(g.width) if c % 3 != 1] for g in coupling.prunable}
    cut = slim(original, coupling, keep)
    other = instrument(cut, place(cut, kernels, capabilities), ranges, kinds, tensors)
    gated = module.eval()(x)
    assert sqnr_db(gated, other(x)) > 45  # a step of an activation may flip
    assert sqnr_db(gated, to_module(original)(x)) < 30
    found.remove()
    whole = instrument(original, placement, ranges, kinds, tensors)
    assert torch.equal(module(x), whole(x))


def test_one_decision_for_all_who_make_a_channel(
    original: gs.Graph, coupling: Coupling, mixture: Callable[[], Mixture]
) -> None:
    found = mixture()
    stream = next(g for g in coupling.prunable if len(g.producers) == 2)
    makers = found.inclinations().makers[stream.name]
    assert {*stream.producers} < {*makers}  # the depthwise convolution's outputs, too
    assert set(found.inclinations().zeros) == {g.name for g in coupling.prunable}
    layers = {p.node for p in found.products}
    assert layers == {n.name for n in original.nodes if n.op in ("Conv", "Gemm", "MatMul")}


def test_a_channel_that_goes_makes_its_readers_cheaper(
    original: gs.Graph, coupling: Coupling, mixture: Callable[[], Mixture]
) -> None:
    found = mixture()
    found.module.eval()
    whole = float(size_bits(found.uses()))
    shapes = [n.inputs[1].shape for n in original.nodes if n.op in ("Conv", "Gemm", "MatMul")]
    assert whole == 8 * sum(int(np.prod(shape)) for shape in shapes)
    with torch.no_grad():
        found._presence(coupling.group(INNER)).zero[0] = 5.0
    assert whole - float(size_bits(found.uses())) == 8 * 9 * (16 + 16)
    found.module.train()
    size_bits(found.uses()).backward()
    gradient = found._presence(coupling.group(INNER)).zero.grad
    assert gradient is not None
    assert int((gradient < 0).sum()) == 39  # more of 0 bits, fewer bits; one is protected


@pytest.mark.parametrize("cost", sorted(COSTS))
def test_fewer_bits_are_cheaper_in_every_model(cost: str, mixture: Callable[[], Mixture]) -> None:
    found = mixture()
    found.module.eval()
    costs = []
    for option in (2, 1, 0):
        with torch.no_grad():
            for layer in found.mixed.values():
                layer.bits.logits.zero_()[option] = 3.0
        costs.append(float(COSTS[cost](found.uses())))
    assert costs[0] > costs[1] > costs[2] > 0
