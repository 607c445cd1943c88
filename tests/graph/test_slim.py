"""Slimming against an oracle: the full network whose layers do not read the removed channels."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwprune.errors import InfeasibleError, UsageError
from hwprune.graph.cost import macs, params
from hwprune.graph.coupling import couple
from hwprune.graph.read import clone, to_proto
from hwprune.graph.slim import slim
from hwprune.testing.networks import BLOCKS, HEADS, build, plain, residual, small_networks
from hwprune.testing.oracles import masked, random_keep, run_graph

_SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def _assert_close(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, float(np.abs(a).max())))


def _places(group):
    return {(member.tensor, member.axis) for member in group.members}


def _check(graph, seed):
    coupling = couple(graph)
    keep = random_keep(coupling, seed)
    small = slim(graph, coupling, keep)
    _assert_close(run_graph(masked(graph, coupling, keep)), run_graph(small))
    _assert_shapes(coupling, {name: len(kept) for name, kept in keep.items()}, small)


def _assert_shapes(coupling, widths, small):
    """`Coupling.shape` predicts what onnx infers for the slim network, weights included."""
    model = to_proto(small)
    onnx.checker.check_model(model, full_check=True)
    values = [*model.graph.value_info, *model.graph.output]
    inferred = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    inferred |= {t.name: list(t.dims) for t in model.graph.initializer}
    replaced = {name for name in inferred if name not in coupling.shapes}
    for name in inferred.keys() - replaced:
        if not _is_shape_constant(small, name):
            assert list(coupling.shape(name, widths)) == inferred[name], name


def _is_shape_constant(graph, name):
    tensor = graph.tensors()[name]
    return isinstance(tensor, gs.Constant) and tensor.dtype == np.int64


@pytest.mark.ort
@given(small_networks(), st.integers(0, 2**32 - 1))
@_SETTINGS
def test_slim_equals_masked(graph, seed):
    _check(graph, seed)


@pytest.mark.ort
@pytest.mark.slow
@given(small_networks(max_blocks=8), st.integers(0, 2**32 - 1))
@settings(_SETTINGS, max_examples=2000)
def test_slim_equals_masked_on_many(graph, seed):
    _check(graph, seed)


@pytest.mark.ort
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_block_can_be_slimmed(block):
    graph = build(block, plain, seed=1)
    coupling = couple(graph)
    frozen = [group.frozen for group in coupling.groups if group.frozen]
    assert set(frozen) <= {"graph output 'y'", "has a single channel"}
    for seed in range(3):
        _check(graph, seed)


@pytest.mark.ort
@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.__name__)
def test_every_head_follows_its_body(head):
    graph = build(residual, head=head, seed=2)
    for seed in range(3):
        _check(graph, seed)


@given(small_networks(), st.integers(0, 2**32 - 1))
@settings(_SETTINGS, max_examples=10)
def test_keeping_everything_changes_nothing(graph, seed):
    coupling = couple(graph)
    full = {group.name: range(group.width) for group in coupling.groups}
    same = slim(graph, coupling, full)
    assert to_proto(same) == to_proto(graph)
    assert to_proto(slim(graph, coupling, {})) == to_proto(graph)


@given(small_networks(), st.integers(0, 2**32 - 1))
@settings(_SETTINGS, max_examples=10)
def test_one_group_after_the_other_is_all_at_once(graph, seed):
    """Cutting group by group, analysed anew each time, ends in the same network."""
    coupling = couple(graph)
    keep = random_keep(coupling, seed)
    step = graph
    for group in reversed(coupling.prunable):
        now = couple(step)
        places = _places(group)
        same = next(g for g in now.groups if _places(g) == places and g.width == group.width)
        step = slim(step, now, {same.name: keep[group.name]})
    both = slim(graph, coupling, keep)
    assert (macs(step), params(step)) == (macs(both), params(both))
    for a, b in zip(run_graph(step), run_graph(both), strict=True):
        np.testing.assert_array_equal(a, b)


def test_slimming_does_not_touch_the_original():
    graph = build(residual)
    before = to_proto(graph)
    coupling = couple(graph)
    slim(graph, coupling, {group.name: [0] for group in coupling.prunable})
    assert to_proto(graph) == before


@pytest.mark.ort
@pytest.mark.parametrize(
    "block",
    [b for b in BLOCKS if b.__name__ in ("residual", "projection", "option_a", "bottleneck")],
    ids=lambda block: block.__name__,
)
def test_dropped_branch_is_as_if_it_added_zero(block):
    graph = build(plain, block, seed=3)
    coupling = couple(graph)
    (branch,) = coupling.branches
    silent = clone(graph)
    add = next(node for node in silent.nodes if node.name == branch.add)
    zeros = gs.Constant("zeros", np.zeros(add.outputs[0].shape, np.float32))
    add.inputs = [t if i == branch.kept_input else zeros for i, t in enumerate(add.inputs)]
    small = slim(graph, coupling, {}, frozenset([branch.name]))
    _assert_close(run_graph(silent.cleanup()), run_graph(small))
    left = {node.name for node in small.nodes}
    expected = {*branch.nodes, branch.add}
    assert left.isdisjoint(expected)
    others = [n.op for n in graph.nodes if n.name not in left | expected]
    assert others in ([], ["Relu"])  # a second rectifier in a row goes too


@pytest.mark.ort
def test_branches_and_widths_together():
    graph = build(residual, residual, residual, seed=4)
    coupling = couple(graph)
    keep = random_keep(coupling, 5)
    dropped = frozenset(branch.name for branch in coupling.branches[:2])
    small = slim(graph, coupling, keep, dropped)
    _assert_close(
        run_graph(slim(masked(graph, coupling, keep), coupling, {}, dropped)), run_graph(small)
    )


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        ({"nothing": [0]}, UsageError, "no channel group"),
        ({"conv0": []}, InfeasibleError, "lose all"),
        ({"conv0": [0, 99]}, UsageError, "channels 0 to 5"),
        ({"conv0": [1, 1]}, UsageError, "each once"),
    ],
)
def test_wrong_keep_is_refused(keep, error, message):
    graph = build(plain)
    with pytest.raises(error, match=message):
        slim(graph, couple(graph), keep)


def test_frozen_group_and_unknown_branch_are_refused():
    graph = build(plain)
    coupling = couple(graph)
    last = next(group for group in coupling.groups if group.frozen)
    with pytest.raises(UsageError, match="graph output"):
        slim(graph, coupling, {last.name: [0]})
    with pytest.raises(UsageError, match="no removable branch"):
        slim(graph, coupling, {}, frozenset(["nothing"]))
