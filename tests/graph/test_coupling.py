"""Which channels belong together, which cannot go, and why."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from hwprune.frontend.module import graph_from_module
from hwprune.graph.cost import macs, node_macs, weighted_nodes
from hwprune.graph.coupling import couple
from hwprune.graph.read import canonical, read_graph
from hwprune.graph.slim import slim
from hwprune.testing import networks
from hwprune.testing.networks import Builder, build, small_networks
from hwprune.testing.oracles import disagreement


def _prunable_share(graph):
    """Share of the MACs in nodes of which at least one side can be pruned."""
    coupling = couple(graph)
    touched = {n for g in coupling.prunable for n in (*g.producers, *g.consumers)}
    depthwise = {n.name for n in graph.nodes if n.op == "Conv" and n.attrs.get("group", 1) > 1}
    members = {m.tensor for g in coupling.prunable for m in g.members}
    counted = [
        node
        for node in weighted_nodes(graph)
        if node.name in touched or (node.name in depthwise and node.inputs[1].name in members)
    ]
    return sum(node_macs(node) for node in counted) / macs(graph)


def _exported(module, shape):
    """The canonical graph of a module with seeded weights, none of them zero or one."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return graph_from_module(module, (torch.randn(shape),))


def _group_of(coupling, node):
    return next(group for group in coupling.groups if node in group.producers)


def test_residual_stream_is_one_group():
    graph = build(networks.residual, networks.residual)
    stream = _group_of(couple(graph), "conv0")
    assert stream.width == 6
    assert len(stream.producers) == 3
    assert len(stream.consumers) == 3  # the next convolution of each block, and the head


def test_option_a_stream_is_a_concatenation_of_groups():
    graph = build(networks.option_a, stem=8)
    coupling = couple(graph)
    add = next(node for node in graph.nodes if node.op == "Add")
    axis = coupling.shapes[add.outputs[0].name][1]
    assert axis.fixed == 0
    assert sorted(coupling.full[name] for (name,), _ in axis.parts) == [8, 8]
    layout = coupling.layout(add.outputs[0].name, 1)
    inside = layout.group[:, 0] == coupling.groups.index(_group_of(coupling, "conv0"))
    assert np.flatnonzero(inside).tolist() == list(range(4, 12))


def test_option_a_pad_follows_what_stays():
    graph = build(networks.option_a, stem=4)
    coupling = couple(graph)
    outer = next(g for g in coupling.prunable if g.width == 4 and g.name != "conv0")
    small = slim(graph, coupling, {outer.name: [0, 1, 2], "conv0": [0, 3]})
    pad = next(node for node in small.nodes if node.op == "Pad")
    assert pad.inputs[1].values.tolist() == [0, 2, 0, 0, 0, 1, 0, 0]
    assert pad.outputs[0].shape == [1, 5, 4, 4]


def test_depthwise_belongs_to_the_channels_it_filters():
    graph = build(networks.separable)
    coupling = couple(graph)
    group = _group_of(coupling, "conv0")
    depthwise = next(n for n in graph.nodes if n.op == "Conv" and n.attrs.get("group", 1) > 1)
    assert depthwise.name not in (*group.producers, *group.consumers)
    assert depthwise.inputs[1].name in {member.tensor for member in group.members}
    small = slim(graph, coupling, {group.name: [1, 4]})
    assert next(n for n in small.nodes if n.name == depthwise.name).attrs["group"] == 2


def test_flattened_channels_are_blocks_of_columns():
    graph = build(head=networks.flat_head)
    group = _group_of(couple(graph), "conv0")
    member = next(m for m in group.members if m.positions.shape[1] > 1)
    np.testing.assert_array_equal(member.positions, np.arange(6 * 64).reshape(6, 64))


def test_grouped_convolution_ties_its_blocks():
    builder = Builder()
    x = builder.conv(builder.conv("x", 6), 6, groups=2)
    coupling = couple(canonical(builder.model(networks.pooled_head(builder, x), 5)))
    for node in ("conv0", "conv1"):
        group = _group_of(coupling, node)
        assert group.width == 3
        np.testing.assert_array_equal(group.members[0].positions, [[0, 3], [1, 4], [2, 5]])


def test_concatenated_channels_stay_groups_of_their_own():
    graph = build(networks.dense)
    coupling = couple(graph)
    concat = next(node for node in graph.nodes if node.op == "Concat")
    assert [repeat for _, repeat in coupling.shapes[concat.outputs[0].name][1].parts] == [1, 1]
    assert [group.width for group in coupling.prunable] == [6, 4]


def test_names_are_unique_and_stable():
    graph = build(*networks.BLOCKS)
    names = [group.name for group in couple(graph).groups]
    assert len(set(names)) == len(names)
    assert names == [group.name for group in couple(build(*networks.BLOCKS, seed=9)).groups]


@given(small_networks())
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_groups_partition_their_members(graph):
    """No position belongs to two channels of a group, and full widths give full shapes."""
    coupling = couple(graph)
    owner = {}
    for group in coupling.groups:
        for member in group.members:
            assert member.positions.shape[0] == group.width
            assert member.positions.size == np.unique(member.positions).size
            place = (group.name, member.tensor, member.axis)
            assert owner.setdefault(place, member) is member
    for name, tensor in graph.tensors().items():
        assert coupling.shape(name, {}) == tuple(tensor.shape)
        for layout in coupling.layouts.get(name, ()):
            kept = coupling.kept(name, layout.axis, {})
            assert kept is not None
            assert len(kept) == tensor.shape[layout.axis]


@given(small_networks())
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_layouts_say_what_stays(graph):
    coupling = couple(graph)
    keep = {group.name: range(0, group.width, 2) for group in coupling.prunable}
    widths = {name: len(kept) for name, kept in keep.items()}
    for name, layout in ((n, layout) for n, own in coupling.layouts.items() for layout in own):
        kept = coupling.kept(name, layout.axis, keep)
        assert kept is not None
        assert len(kept) == coupling.shape(name, widths)[layout.axis]


@pytest.mark.parametrize(
    ("operator", "inputs", "size", "attributes", "reason"),
    [
        ("Softmax", [], (6, 8, 8), {"axis": 1}, "normalises over the channels"),
        ("LRN", [], (6, 8, 8), {"size": 3}, "LRN 'lrn1' has no pruning rule"),
        ("Add", ["image"], (6, 8, 8), {}, "meets 'tile1_0', whose channels are fixed"),
        ("Conv", ["same"], (1, 1, 1), {}, "has a computed weight"),
        ("Slice", [[0], [6], [1], [2]], (3, 8, 8), {}, "strides"),
        ("Gather", [2], (1, 8, 8), {"axis": 1}, "picks single channels"),
        ("Pad", [[0, -1, 0, 0, 0, 0, 0, 0]], (5, 8, 8), {}, "crops"),
    ],
)
def test_what_cannot_be_pruned_says_why(operator, inputs, size, attributes, reason):
    builder = Builder()
    conv = builder.conv("x", 6)
    named = {"same": lambda: conv, "image": lambda: _tiled(builder)}
    given = [named[i]() if isinstance(i, str) else builder.constant(i) for i in inputs]
    x = builder.add(operator, [conv, *given], size, **attributes)
    graph = canonical(builder.model(networks.flat_head(builder, x), 5))
    group = _group_of(couple(graph), "conv0")
    assert group.frozen is not None
    assert reason in group.frozen


def _tiled(builder):
    return builder.add("Tile", ["x", builder.constant([1, 2, 1, 1])], (6, 8, 8))


@pytest.mark.ort
def test_shared_weight_is_cut_once():
    """One convolution applied twice: what it reads and what it makes is one group."""
    builder = Builder()
    x = builder.conv("x", 6)
    weights = [builder.weight(6, 6, 3, 3), builder.vector(6)]
    for _ in range(2):
        x = builder.relu(builder.add("Conv", [x, *weights], (6, 8, 8), pads=[1] * 4))
    graph = canonical(builder.model(networks.pooled_head(builder, x), 5))
    coupling = couple(graph)
    (group,) = coupling.prunable
    assert group.producers == ("conv0", "conv1", "conv3")
    assert disagreement(graph, coupling, {group.name: [0, 2, 5]}) <= 1e-5


def test_initializer_that_another_reader_needs_whole_freezes():
    builder = Builder(shape=(3, 8, 6))
    weights = [builder.weight(6, 3, 3, 3), builder.vector(6)]
    x = builder.add("Conv", ["x", *weights], (6, 8, 6), pads=[1] * 4)
    x = builder.add("Add", [x, weights[1]], (6, 8, 6))  # along the width of the image
    graph = canonical(builder.model(networks.pooled_head(builder, x), 5))
    assert _group_of(couple(graph), "conv0").frozen == "initializer 'c1' is shared"


class _Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)
        self.up, self.down, self.norm = nn.Linear(8, 16), nn.Linear(16, 8), nn.LayerNorm(8)

    def forward(self, x):
        y = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1) @ x
        return self.down(nn.functional.gelu(self.up(self.norm(y))))


@pytest.mark.ort
def test_transformer_block():
    """The hidden width can go, and dimensions of queries and keys."""
    graph = _exported(_Attention(), (1, 5, 8))
    coupling = couple(graph)
    assert sorted(group.width for group in coupling.prunable) == [8, 16]
    assert disagreement(graph, coupling, {g.name: [0, 3, 5] for g in coupling.prunable}) <= 1e-5


class _OptionA(nn.Module):
    """One stage of a CIFAR ResNet with option-A shortcuts (He et al. 2016, section 4.2)."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = self._layer(3, width, 1)
        self.first = nn.ModuleList([self._layer(width, width, 1), self._layer(width, width, 1)])
        self.second = nn.ModuleList(
            [self._layer(width, 2 * width, 2), self._layer(2 * width, 2 * width, 1)]
        )
        self.third = nn.ModuleList(
            [self._layer(2 * width, 2 * width, 1), self._layer(2 * width, 2 * width, 1)]
        )
        self.head = nn.Linear(2 * width, 10)

    @staticmethod
    def _layer(inputs, outputs, stride):
        conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs))

    @staticmethod
    def _block(layers, x, short):
        return torch.relu(layers[1](torch.relu(layers[0](x))) + short)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = self._block(self.first, x, x)
        quarter = x.shape[1] // 2
        short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter), "constant", 0)
        x = self._block(self.second, x, short)
        x = self._block(self.third, x, x)
        return self.head(nn.functional.avg_pool2d(x, x.size(3)).flatten(1))


@pytest.mark.ort
def test_exported_option_a_network():
    graph = _exported(_OptionA(), (1, 3, 16, 16))
    coupling = couple(graph)
    assert [g.frozen for g in coupling.groups if g.frozen] == [
        f"graph output {graph.outputs[0].name!r}"
    ]
    assert _prunable_share(graph) > 0.99
    assert len(coupling.branches) == 3
    rng = np.random.default_rng(0)
    keep = {g.name: rng.permutation(g.width)[: max(1, g.width // 2)] for g in coupling.prunable}
    assert disagreement(graph, coupling, keep) <= 1e-5


@pytest.mark.ort
@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("cifar10_resnet8", 0.9),
        ("cifar10_resnet_large", 0.9),
        ("vww_mobilenetv1_025_96", 0.9),
        ("face_slim_320", 0.9),
        ("vit_mnist", 0.45),
    ],
)
def test_files_can_be_pruned(shared_data, name, least):
    graph = read_graph(shared_data / f"{name}.onnx")
    assert _prunable_share(graph) > least
    coupling = couple(graph)
    rng = np.random.default_rng(1)
    keep = {g.name: rng.permutation(g.width)[: max(1, g.width // 3)] for g in coupling.prunable}
    assert disagreement(graph, coupling, keep) <= 1e-5
