"""Offered widths and the configurations that assignments stand for."""

from dataclasses import replace

import pytest

from hwprune.graph.coupling import couple
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import build_space, offered_widths
from hwprune.testing.networks import build, dense, layer_normed, residual


@pytest.mark.parametrize(
    ("width", "step", "coarse"), [(16, 4, 16), (64, 4, 16), (7, 4, 16), (3, 1, 1), (640, 4, 32)]
)
def test_offered_widths(width, step, coarse):
    offered = offered_widths(width, step, coarse, 8)
    assert offered == tuple(sorted(set(offered)))
    assert offered[-1] == width
    on_steps = [w for w in offered[:-1] if w % step == 0]
    below = [w for w in offered[:-1] if w < step]
    assert len(on_steps) < 8
    assert sorted([*below, *on_steps]) == list(offered[:-1])
    assert set(below) <= {step // 4, step // 2}
    assert below or step == 1 or width <= step // 4


def test_assignments_become_configurations(capabilities):
    graph = build(residual)
    network = KernelGraph(graph, couple(graph), capabilities)
    space = build_space(network, 2, 2)  # a half of the step is the narrowest on offer
    c = space.configuration(dict.fromkeys(space.sizes, 0))
    assert set(c.widths) == {g.name for g in network.coupling.prunable}
    assert all(w == min(1, network.coupling.full[g]) for g, w in c.widths.items())
    assert c.dropped == {b.name for b in network.coupling.branches}
    full = space.configuration({})
    assert all(w == network.coupling.full[g] for g, w in full.widths.items())
    assert not full.dropped


def test_shares_are_of_the_channels_behind_a_variable(capabilities):
    for blocks in ([residual], [dense] * 6):
        graph = build(*blocks)
        network = KernelGraph(graph, couple(graph), capabilities)
        space = build_space(network, 2, 2)
        for name, options in space.widths.items():
            shares = space.shares[f"width:{name}"]
            assert shares[-1] == 1
            full = sum(network.coupling.full[g] for g in options[0])
            assert [s * full for s in shares] == pytest.approx([sum(o.values()) for o in options])


def test_groups_that_meet_in_one_kernel_share_a_ratio(capabilities):
    """A dense concat feeds one convolution from many groups: no table has an axis for each."""
    graph = build(*[dense] * 6)
    network = KernelGraph(graph, couple(graph), capabilities)
    space = build_space(network, 2, 2)
    assert len(space.widths) < len(network.coupling.prunable)
    covered = [g for options in space.widths.values() for g in options[0]]
    assert sorted(covered) == sorted(g.name for g in network.coupling.prunable)


def test_kernels_around_one_tensor_are_few_enough_for_a_table(capabilities, monkeypatch):
    both = frozenset({"int8", "nbits-4/32", "nbits-8/32"})
    able = replace(capabilities, precisions={"MatMul": both})
    graph = build(layer_normed)  # two products, one behind the other
    network = KernelGraph(graph, couple(graph), able)
    names = ("fp32", "int8", "nbits-4/32", "nbits-8/32")
    assert list(build_space(network, 2, 2).kernels.values()) == [names, names]
    monkeypatch.setattr("hwprune.latency.space._MOST_FORMS", 9)
    assert list(build_space(network, 2, 2).kernels.values()) == [names[:3], names[:3]]
    monkeypatch.setattr("hwprune.latency.space._MOST_FORMS", 1)
    assert list(build_space(network, 2, 2).kernels.values()) == [names[:2], names[:2]]
