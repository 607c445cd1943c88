"""Kernel graphs: what is fused, where boundaries are paid, what a dropped branch saves."""

import json

import pytest

from hwprune.graph.coupling import couple
from hwprune.latency.kernels import KernelGraph
from hwprune.testing.networks import build, option_a, plain, residual


@pytest.fixture
def network(capabilities) -> KernelGraph:
    graph = build(plain, residual)
    return KernelGraph(graph, couple(graph), capabilities)


def ops(network: KernelGraph, kernels: dict[str, str], dropped: frozenset[str] = frozenset()):
    return [(k.op, k.precision, k.fused) for k in network.kernels({}, dropped, kernels)]


def everything_int8(network: KernelGraph) -> dict[str, str]:
    return {s.node: s.precisions[-1] for s in network.steps}


def test_fp32_residual_is_one_kernel_with_its_convolution(network):
    found = ops(network, {})
    assert sum(fused[:1] == ("Add",) for _, _, fused in found) == 1
    assert not any(op == "Add" for op, _, _ in found)


def test_int8_adds_are_kernels_of_their_own(network):
    found = ops(network, everything_int8(network))
    assert ("Add", "int8", ("Relu",)) in found
    assert not any("Add" in fused for _, _, fused in found)


def test_all_int8_pays_two_boundaries_only(network):
    found = [op for op, _, _ in ops(network, everything_int8(network))]
    assert found.count("QuantizeLinear") == 1
    assert found.count("DequantizeLinear") == 1


def test_each_int8_island_pays_both_its_boundaries(network):
    conv = next(s.node for s in network.steps if s.op == "Conv")
    found = [op for op, _, _ in ops(network, {conv: "int8"})]
    assert found.count("QuantizeLinear") == 1
    assert found.count("DequantizeLinear") == 1


def test_a_dropped_branch_takes_its_kernels_and_its_add_along(network):
    (branch,) = network.coupling.branches
    before = ops(network, everything_int8(network))
    after = ops(network, everything_int8(network), frozenset([branch.name]))
    convs = sum(op == "Conv" for op, _, _ in before) - sum(op == "Conv" for op, _, _ in after)
    assert convs == sum(
        network.by_node[n].op == "Conv" for n in branch.nodes if n in network.by_node
    )
    assert not any(op == "Add" for op, _, _ in after)


def test_precision_cannot_change_for_free_across_a_dropped_branch(network):
    """What stays of the Add passes its input on; a change of precision there is still paid."""
    (branch,) = network.coupling.branches
    kernels = everything_int8(network)
    at_add = {**kernels, branch.add: "fp32"}
    dropped = frozenset([branch.name])
    boundaries = ("QuantizeLinear", "DequantizeLinear")
    paid = sum(op in boundaries for op, _, _ in ops(network, at_add, dropped))
    assert paid == sum(op in boundaries for op, _, _ in ops(network, kernels, dropped)) + 2


def test_kernels_are_as_wide_as_the_configuration_says(network):
    group = network.coupling.prunable[0]
    shapes = [k.output for k in network.kernels({group.name: 2}, frozenset(), {})]
    wide = [k.output for k in network.kernels({}, frozenset(), {})]
    assert shapes != wide
    assert sum(s[1] for s in shapes) < sum(s[1] for s in wide)


def test_pads_of_a_zero_padded_shortcut_follow_the_widths(capabilities):
    graph = build(plain, option_a)
    network = KernelGraph(graph, couple(graph), capabilities)
    widths = {g.name: max(1, g.width // 2) for g in network.coupling.prunable}
    for kernel in network.kernels(widths, frozenset(), {}):
        if kernel.op == "Pad":
            pads = json.loads(dict(kernel.attributes)["const:1"])
            rank = len(pads) // 2
            grown = [n + pads[i] + pads[i + rank] for i, n in enumerate(kernel.inputs[0])]
            assert tuple(grown) == kernel.output
            return
    pytest.fail("no Pad kernel")
