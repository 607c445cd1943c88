"""Which residual branches may be left out."""

import pytest

from hwprune.graph.branches import find_branches
from hwprune.graph.cost import node_macs
from hwprune.graph.coupling import couple
from hwprune.graph.read import canonical, read_graph
from hwprune.graph.slim import slim
from hwprune.testing import networks
from hwprune.testing.networks import Builder, build


def test_each_residual_block_has_one():
    graph = build(networks.residual, networks.bottleneck, networks.residual)
    found = find_branches(graph)
    assert len(found) == 3
    adds = [node.name for node in graph.nodes if node.op == "Add"]
    assert [branch.add for branch in found] == adds
    nodes = {node.name: node for node in graph.nodes}
    assert [nodes[name].op for name in found[0].nodes] == ["Conv", "Relu", "Conv"]


def test_of_two_convolved_sides_the_costlier_goes():
    graph = build(networks.projection)
    (branch,) = find_branches(graph)
    nodes = {node.name: node for node in graph.nodes}
    add = nodes[branch.add]
    gone = sum(node_macs(nodes[name]) for name in branch.nodes)
    kept = add.inputs[branch.kept_input].inputs[0]
    assert kept.name not in branch.nodes
    assert kept.inputs[1].shape[2:] == (1, 1)
    assert gone > node_macs(kept)


def test_a_bias_and_a_gate_are_no_branches():
    assert find_branches(build(networks.gated, networks.scaled, head=networks.flat_head)) == ()


def test_what_others_read_does_not_go():
    """The convolution of the branch also feeds a concatenation: nothing would disappear."""
    builder = Builder()
    x = builder.conv("x", 4)
    y = builder.conv(x, 4)
    both = builder.add("Concat", [builder.sum(x, y), y], (8, 8, 8), axis=1)
    graph = canonical(builder.model(networks.pooled_head(builder, both), 5))
    assert find_branches(graph) == ()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cifar10_resnet8", 3),
        ("vit_mnist", 12),
        ("vww_mobilenetv1_025_96", 0),
        ("face_slim_320", 0),
    ],
)
def test_files(shared_data, name, count):
    assert len(find_branches(read_graph(shared_data / f"{name}.onnx"))) == count


def test_rectifiers_left_in_a_row_become_one():
    graph = build(networks.residual, networks.residual)
    coupling = couple(graph)
    names = frozenset(branch.name for branch in coupling.branches)
    assert [n.op for n in slim(graph, coupling, {}, names).nodes[:3]] == [
        "Conv",
        "Relu",
        "GlobalAveragePool",
    ]
