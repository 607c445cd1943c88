"""Oracles: cuts that can be undone exactly, and a trained network."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hwprune.frontend.models import load_model
from hwprune.graph.coupling import couple
from hwprune.graph.read import clone
from hwprune.graph.slim import slim
from hwprune.network.run import capture, kl, outputs, top1
from hwprune.network.twin import to_module
from hwprune.pruning.criteria import rank_channels
from hwprune.pruning.damage import damaged
from hwprune.pruning.leastsquares import refit
from hwprune.pruning.reconstruct import FINAL, Reference
from hwprune.testing import networks


@pytest.fixture
def x():
    return torch.randn(256, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def redundant_copy(graph, group):
    """Makes the group's last channel the double of its first."""
    tensors = graph.tensors()
    producer = next(n for n in graph.nodes if n.name == group.producers[0])
    for tensor in producer.inputs[1:]:
        tensors[tensor.name].values[-1] = 2 * tensors[tensor.name].values[0]
    return graph


def inner_group(coupling):
    """A group between exactly one producer and one consumer."""
    return next(g for g in coupling.prunable if len(g.producers) == len(g.consumers) == 1)


def error(graph, slimmed, x):
    want, got = outputs(to_module(graph), x)[0], outputs(to_module(slimmed), x)[0]
    return float((want - got).norm() / want.norm())


@pytest.mark.parametrize("block", [networks.residual, networks.bottleneck])
def test_redundant_channels_cost_nothing(block, x):
    graph = networks.build(block, block)
    coupling = couple(graph)
    group = inner_group(coupling)
    redundant_copy(graph, group)
    keep = {group.name: np.arange(group.width - 1)}
    slimmed = slim(graph, coupling, keep)
    before = error(graph, slimmed, x)
    Reference(graph, coupling, x, 0, replace(FINAL, ridge=1e-9)).reconstruct(slimmed, keep)
    assert error(graph, slimmed, x) < 1e-4 < before


@pytest.mark.parametrize(
    "block", [networks.residual, networks.option_a, networks.dense, networks.shuffled]
)
def test_repair_beats_slicing(block, x):
    graph = networks.build(block, block, networks.plain)
    coupling = couple(graph)
    keep = {g.name: np.arange(max(1, g.width // 2)) for g in coupling.prunable}
    slimmed = slim(graph, coupling, keep)
    before = error(graph, slimmed, x[128:])
    Reference(graph, coupling, x[:128]).reconstruct(slimmed, keep)
    assert error(graph, slimmed, x[128:]) < 0.8 * before


def test_removed_branch_is_absorbed(x):
    graph = networks.build(networks.residual, networks.residual, networks.plain)
    coupling = couple(graph)
    slimmed = slim(graph, coupling, {}, frozenset({coupling.branches[0].name}))
    before = error(graph, slimmed, x[128:])
    Reference(graph, coupling, x[:128]).reconstruct(slimmed, {})
    assert error(graph, slimmed, x[128:]) < 0.8 * before


def test_layers_with_whole_inputs_stay():
    graph = networks.build(networks.residual, networks.separable)
    coupling = couple(graph)
    group = inner_group(coupling)
    slimmed = slim(graph, coupling, {group.name: np.arange(group.width - 1)})
    found = damaged({n.name: n for n in graph.nodes}, slimmed)
    assert group.consumers[0] in found
    assert group.producers[0] not in found
    assert damaged({n.name: n for n in graph.nodes}, clone(graph)) == set()


def test_one_reference_repairs_many_candidates_alike(x):
    graph = networks.build(networks.residual, networks.residual)
    coupling = couple(graph)
    reference, results = Reference(graph, coupling, x), []
    group = inner_group(coupling)
    for kept in ([0, 1], [1, 2], [0, 1]):
        slimmed = slim(graph, coupling, {group.name: kept})
        reference.reconstruct(slimmed, {group.name: kept})
        results.append(capture(to_module(slimmed), x[:4], ["y"])["y"])
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


def test_refit_against_numpy():
    rng = np.random.default_rng(0)
    rows, weight = rng.normal(size=(400, 6)), rng.normal(size=(3, 6))
    target = rows @ rng.normal(size=(6, 3)) + 5 + rng.normal(size=(400, 3))
    as_torch = [torch.tensor(a[None], dtype=torch.float32) for a in (rows, target, weight)]
    found = refit(*as_torch, torch.zeros(1, 3), 1e-9)
    with_ones = np.column_stack([rows, np.ones(400)])[40:]
    want = np.linalg.lstsq(with_ones, target[40:], rcond=None)[0]
    np.testing.assert_allclose(found[0][0].T, want[:-1], atol=1e-3)
    np.testing.assert_allclose(found[1][0], want[-1], atol=1e-3)


def test_refit_refuses_what_does_not_generalise():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1, 60, 50, generator=generator)
    noise = torch.randn(1, 60, 2, generator=generator)
    weight = torch.zeros(1, 2, 50)
    assert refit(rows, noise, weight, torch.zeros(1, 2), 1e-9) is None


@pytest.fixture(scope="module")
def resnet20(shared_data):
    """Graph, 1,000 test images with labels, 256 calibration images."""
    loaded = load_model("resnet20", shared_data / "cifar10_resnet20.safetensors")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    sheets = []
    for split in ("test", "train"):
        archive = np.load(shared_data / f"cifar10_{split}.npz")
        sheet = np.asarray(Image.open(io.BytesIO(archive["sheet_00"].tobytes())))
        pixels = sheet.reshape(40, 32, 25, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
        images = ((pixels / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
        sheets.append((torch.from_numpy(images.copy()), archive["labels"][:1000].astype(np.int64)))
    (x, y), (calibration, _) = sheets
    return loaded.graph, x, y, calibration[:256]


@pytest.mark.shared
@pytest.mark.slow
def test_resnet20_without_half_of_its_inner_channels(resnet20):
    graph, x, y, calibration = resnet20
    coupling = couple(graph)
    inner = [g for g in coupling.prunable if len(g.producers) == len(g.consumers) == 1]
    logits = outputs(to_module(graph), x)[0]
    reference = Reference(graph, coupling, calibration)
    loss = {}
    for criterion in ("magnitude", "obs"):
        ranking = rank_channels(graph, coupling, calibration, criterion)
        keep = {g.name: np.sort(ranking[g.name].order[g.width // 2 :]) for g in inner}
        slimmed = slim(graph, coupling, keep)
        sliced = top1(outputs(to_module(slimmed), x)[0], y)
        reference.reconstruct(slimmed, keep)
        repaired = outputs(to_module(slimmed), x)[0]
        assert top1(logits, y) > 0.9
        assert sliced < 0.5 < 0.79 < top1(repaired, y)
        loss[criterion] = kl(logits, repaired)
    assert loss["obs"] < loss["magnitude"]
