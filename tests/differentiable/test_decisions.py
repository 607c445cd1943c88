"""From logits to whole bits."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.backend import Capabilities
from hwprune.differentiable.costs import mpic_cycles, ne16_cycles
from hwprune.differentiable.decisions import Inclinations, promoted
from hwprune.differentiable.files import Files
from hwprune.differentiable.mixed import Mixture
from hwprune.errors import InfeasibleError
from hwprune.graph.channels import Coupling
from hwprune.quantize.placement import place

INNER = "node_conv2d_1"


@pytest.fixture(scope="module")
def choice(mixture: Callable[[], Mixture]) -> Inclinations:
    """Logits by chance, with most channels there."""
    found = mixture().inclinations()
    generator = torch.Generator().manual_seed(1)
    for logits in (*found.logits.values(), *found.zeros.values()):
        logits.normal_(generator=generator)
    for zeros in found.zeros.values():
        zeros.sub_(1)
    return found


@pytest.fixture(scope="module")
def files(
    choice: Inclinations,
    original: gs.Graph,
    coupling: Coupling,
    capabilities: Capabilities,
    kernels: dict[str, str],
) -> Files:
    able = place(original, kernels, capabilities).nodes
    return Files(original, coupling, capabilities, dict.fromkeys(sorted(able), "int8"), choice)


def test_the_likeliest_is_taken(choice: Inclinations) -> None:
    found = choice.decide({})
    for product in choice.products:
        likeliest = choice.logits[product.node].argmax(0).numpy()
        np.testing.assert_array_equal(found.bits[product.node], np.array([2, 4, 8])[likeliest])
    best = choice.logits[INNER].amax(0)
    np.testing.assert_array_equal(found.kept[INNER], (best > choice.zeros[INNER]).numpy())
    assert 0 < found.kept[INNER].sum() < 40


def test_widths_are_legal(choice: Inclinations) -> None:
    widths = {group: range(4, len(zeros) + 1, 4) for group, zeros in choice.zeros.items()}
    for price in (-1.0, 0.0, 1e-3, 1.0):
        kept = choice.decide(widths, price).kept
        assert all(int(k.sum()) in widths[group] for group, k in kept.items())


@pytest.mark.parametrize("most", [12_000, 17_000, 21_000])
def test_the_bound_holds_and_is_filled(files: Files, most: int) -> None:
    found = files.within({}, most)
    assert 0.97 * most < files.size(found) <= most


def test_a_bound_out_of_reach_is_named(files: Files) -> None:
    with pytest.raises(InfeasibleError, match="cannot be met: with the fewest bits"):
        files.within({}, 4_000)


def test_outputs_move_into_tiles_that_are_begun(choice: Inclinations) -> None:
    """NE16 computes 32 outputs at once; MPIC pays for every bit."""
    before = choice.decide({"node_conv2d_1": [40]})
    after = promoted(choice, before, ne16_cycles)
    counts = Counter(after.bits[INNER].tolist())
    assert len(Counter(before.bits[INNER].tolist())) == 3
    assert sorted(counts.values()) == [8, 32]
    assert counts[8] == 32
    cost = [float(ne16_cycles(choice.uses(d))) for d in (before, after)]
    assert cost[1] < cost[0]
    assert all((after.bits[n] >= before.bits[n]).all() for n in after.bits)
    same = promoted(choice, before, mpic_cycles)
    assert all((same.bits[n] == before.bits[n]).all() for n in same.bits)
