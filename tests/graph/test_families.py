"""The families people deploy: masked equals slim, and nothing but outputs is fixed."""

import pytest
import torch

from hwprune.frontend.module import graph_from_module
from hwprune.graph.cost import macs
from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.testing.configured import CONFIGURED
from hwprune.testing.families import WRITTEN_OUT, randomize
from hwprune.testing.oracles import disagreement, parity, random_keep

pytestmark = pytest.mark.ort
_QUICK = ("ConvNeXt", "BERT", "Llama (GQA)")
_FIXED = ("graph output",)


def families():
    slow = [f for f in CONFIGURED if f.name not in _QUICK]
    quick = [*WRITTEN_OUT, *(f for f in CONFIGURED if f.name in _QUICK)]
    marked = [pytest.param(f, marks=pytest.mark.slow) for f in slow]
    return [*(pytest.param(f) for f in quick), *marked]


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_family(family):
    torch.manual_seed(0)
    graph = graph_from_module(randomize(family.build()), family.inputs())
    coupling = couple(graph)
    reasons = [group.frozen for group in coupling.groups if group.frozen]
    assert all(any(fixed in reason for fixed in _FIXED) for reason in reasons), reasons
    keep = random_keep(coupling, 0)
    assert disagreement(graph, coupling, keep) < 1e-5
    assert parity(slim(graph, coupling, keep)) < 1e-4
    least = slim(graph, coupling, {g.name: [0] for g in coupling.prunable})
    assert macs(least) < 0.1 * macs(graph)
