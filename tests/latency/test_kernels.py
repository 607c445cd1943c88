"""Kernel graphs: what is fused, where boundaries are paid, what a dropped branch saves."""

import json
from dataclasses import replace

import pytest

from hwprune.backend import Capabilities
from hwprune.graph.coupling import couple
from hwprune.latency.calibrate import weight_bytes
from hwprune.latency.kernels import KernelGraph
from hwprune.plan import Configuration
from hwprune.testing.networks import build, flat_head, layer_normed, option_a, plain, residual


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


def test_an_add_without_its_branch_is_gone_whatever_it_was_to_compute_in(network):
    (branch,) = network.coupling.branches
    kernels = everything_int8(network)
    at_add = {**kernels, branch.add: "fp32"}
    dropped = frozenset([branch.name])
    assert ops(network, at_add, dropped) == ops(network, kernels, dropped)


def test_precision_cannot_change_for_free_across_a_dropped_branch_in_the_tables(network):
    """Seen from one link alone, what stays of the Add has a precision, and a change is paid."""
    (branch,) = network.coupling.branches
    kernels = everything_int8(network)
    at_add = {**kernels, branch.add: "fp32"}
    dropped = frozenset([branch.name])

    def boundaries(chosen: dict[str, str]) -> int:
        found = [network.link_kernels(e, {}, dropped, chosen) for e in network.links]
        ops = [k.op for kernels in found for k in kernels]
        return sum(op in ("QuantizeLinear", "DequantizeLinear") for op in ops)

    assert boundaries(at_add) == boundaries(kernels) + 2


def test_floats_between_integers_are_integers(network):
    """As onnxruntime has it: it quantises the weights of such a convolution by itself."""
    kernels = everything_int8(network)
    inner = [s.node for s in network.steps if s.op == "Conv"][1]
    settled = network.settled(Configuration(kernels={**kernels, inner: "fp32"}))
    assert settled.kernels[inner] == "int8"
    first = next(s.node for s in network.steps if s.op == "Conv")
    alone = network.settled(Configuration(kernels={**kernels, first: "fp32"}))
    assert alone.kernels[first] == "fp32"


def test_kernels_are_as_wide_as_the_configuration_says(network):
    group = network.coupling.prunable[0]
    shapes = [k.output for k in network.kernels({group.name: 2}, frozenset(), {})]
    wide = [k.output for k in network.kernels({}, frozenset(), {})]
    assert shapes != wide
    assert sum(s[1] for s in shapes if s) < sum(s[1] for s in wide if s)


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


OF_MATRICES = frozenset({"dynamic-int8", "nbits-4/32"})


@pytest.fixture
def able(capabilities) -> Capabilities:
    both = frozenset({"int8"}) | OF_MATRICES
    more = {"Gemm": both, "MatMul": both, "Transpose": frozenset({"int8"})}
    precisions = {**capabilities.precisions, **more}
    fused = frozenset({"fp32"}) | OF_MATRICES
    return replace(capabilities, precisions=precisions, bias_fused=fused)


@pytest.fixture
def products(able) -> KernelGraph:
    """Ends in a MatMul with its Add and Relu, and a Gemm."""
    graph = build(plain, head=flat_head)
    return KernelGraph(graph, couple(graph), able)


def of_products(network: KernelGraph, matmul: str, gemm: str):
    """What runs behind the convolutions, changes of layout left out."""
    chosen = {"MatMul": matmul, "Gemm": gemm}
    kernels = {s.node: chosen[s.op] for s in network.steps if s.op in chosen}
    found = [k for k in ops(network, kernels) if not k[0].startswith("Reorder")]
    return found[1 + [op for op, *_ in found].index("Flatten") :]


@pytest.mark.parametrize("kernel", sorted(OF_MATRICES))
def test_products_that_round_for_themselves_take_the_bias_and_leave_the_activation(
    products, kernel
):
    assert of_products(products, kernel, kernel) == [
        ("MatMul", kernel, ("Add",)), ("Relu", "fp32", ()), ("Gemm", kernel, ()),
    ]  # fmt: skip
    assert of_products(products, "fp32", kernel) == [
        ("MatMul", "fp32", ("Add", "Relu")), ("Gemm", kernel, ()),
    ]  # fmt: skip


def test_they_pay_no_boundaries_but_those_of_their_neighbours(products):
    found = of_products(products, "nbits-4/32", "int8")
    assert found == [
        ("MatMul", "nbits-4/32", ("Add",)),  # the Relu vanishes into the quantisation
        ("Gemm", "int8", ()), ("QuantizeLinear", "int8", ()), ("DequantizeLinear", "int8", ()),
    ]  # fmt: skip


@pytest.mark.parametrize(("asked", "runs"), [("fp32", "int8"), ("nbits-4/32", "nbits-4/32")])
def test_between_integers_they_stay_what_they_are(able, asked, runs):
    graph = build(layer_normed)
    network = KernelGraph(graph, couple(graph), able)
    _, second = (s.node for s in network.steps if s.op == "MatMul")
    integers = {s.node: "int8" for s in network.steps if "int8" in s.precisions}
    settled = network.settled(Configuration(kernels={**integers, second: asked}))
    assert settled.kernels[second] == runs


def test_their_weights_are_counted_in_bytes(products):
    kernels = products.kernels({}, frozenset(), {s.node: "nbits-4/32" for s in products.steps})
    (gemm,) = (k for k in kernels if k.op == "Gemm")
    inner, outputs = gemm.inputs[1]
    assert weight_bytes(gemm) == inner * outputs * (0.5 + 4 / 32)
    assert weight_bytes(replace(gemm, precision="fp32")) == inner * outputs * 4
