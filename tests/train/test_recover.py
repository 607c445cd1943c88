import copy
import math

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import nn

from hwprune.frontend.data import DataSet
from hwprune.graph.read import clone
from hwprune.network.run import outputs
from hwprune.network.twin import to_module, write_back
from hwprune.train.augment import flip_and_crop
from hwprune.train.batchnorm import fold_batchnorm, insert_batchnorm
from hwprune.train.loop import fit
from hwprune.train.loss import distillation, in_logits
from hwprune.train.recipe import Recipe
from hwprune.train.recover import recover


def perturbed(graph: gs.Graph) -> gs.Graph:
    """Every other filter of one layer silenced and the rest moved: what pruning leaves behind."""
    damaged = clone(graph)
    weight = next(t for n, t in damaged.tensors().items() if n == "conv1.weight")
    weight.values[::2] = 0
    rng = np.random.default_rng(1)
    for tensor in damaged.tensors().values():
        if isinstance(tensor, gs.Constant) and tensor.values.ndim == 4:
            noise = rng.standard_normal(tensor.values.shape) * 0.5 * tensor.values.std()
            tensor.values = (tensor.values + noise).astype(np.float32)
    return damaged


def distance(graph: gs.Graph, teacher: gs.Graph, x: np.ndarray) -> float:
    ours, theirs = outputs(to_module(graph), x), outputs(to_module(teacher), x)
    return float(distillation(tuple(ours), tuple(theirs), 1.0))


def test_recovery_brings_a_damaged_network_back(original: gs.Graph, data: DataSet) -> None:
    damaged = perturbed(original)
    fresh = np.random.default_rng(9).normal(size=(256, 1, 9, 9)).astype(np.float32)
    before = distance(damaged, original, fresh)
    seen: list[tuple[int, int]] = []
    trained = recover(
        damaged, original, data, Recipe(8), 0, lambda done, total, _: seen.append((done, total))
    )
    assert distance(trained, original, fresh) < before / 4
    assert seen[-1][0] == seen[-1][1] == len(seen)
    assert distance(damaged, original, fresh) == before  # the argument is left alone


def test_recovery_is_repeatable(original: gs.Graph, data: DataSet) -> None:
    damaged = perturbed(original)
    first, second, other = (recover(damaged, original, data, Recipe(1), seed) for seed in (0, 0, 1))
    a, b, c = (g.tensors()["conv1.weight"].values for g in (first, second, other))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-6


def test_recovery_never_ends_worse(original: gs.Graph, data: DataSet) -> None:
    trained = recover(original, original, data, Recipe(1), 0)
    assert distance(trained, original, data.x) < 1e-6


def test_batchnorm_in_and_out_leaves_the_function(original: gs.Graph, data: DataSet) -> None:
    module = to_module(original)
    x = torch.from_numpy(data.x[:100])
    expected = module(x).detach()
    names = [n.meta["tensor"] for n in module.graph.nodes]
    assert insert_batchnorm(module, x, 32) == 3
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 3
    torch.testing.assert_close(module(x), expected, atol=1e-4, rtol=1e-4)
    # and the statistics are the data's own: in training mode nothing changes either
    torch.testing.assert_close(module.train()(x).detach(), expected, atol=1e-3, rtol=1e-3)
    assert {n.meta["tensor"] for n in module.graph.nodes} >= set(names)
    fold_batchnorm(module.eval())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in module.modules())
    assert [n.meta["tensor"] for n in module.graph.nodes] == names
    torch.testing.assert_close(module(x), expected, atol=1e-4, rtol=1e-4)


def test_folding_keeps_what_was_trained(original: gs.Graph, data: DataSet) -> None:
    student, teacher = to_module(perturbed(original)), to_module(original)
    x = torch.from_numpy(data.x[:64])
    insert_batchnorm(student, x, 64)
    fit(student, teacher, data, Recipe(epochs=2, rate=0.05), seed=0)
    expected = student(x).detach()
    fold_batchnorm(student)
    torch.testing.assert_close(student(x), expected, atol=1e-4, rtol=1e-4)
    graph = clone(original)
    write_back(student, graph)
    torch.testing.assert_close(outputs(to_module(graph), x)[0], expected, atol=1e-4, rtol=1e-4)


def test_labels_reach_the_loss(original: gs.Graph, data: DataSet) -> None:
    """A teacher that knows nothing: only labels can teach."""
    x = data.x
    y = (x.mean((1, 2, 3)) > 0).astype(np.int64)
    blank = clone(original)
    for name in ("linear.weight", "linear.bias"):
        blank.tensors()[name].values = np.zeros_like(blank.tensors()[name].values)
    ignorant = to_module(blank)
    student = to_module(original)
    recipe = Recipe(epochs=6, rate=0.05, label_weight=0.9)
    fit(student, ignorant, DataSet(x, y), recipe, seed=0)
    right = (outputs(student, x)[0].argmax(1).numpy() == y).mean()
    assert right > 0.8


def test_a_diverging_run_falls_back_to_the_best(original: gs.Graph, data: DataSet) -> None:
    student = to_module(original)
    before = copy.deepcopy(student.state_dict())
    loss = fit(student, to_module(perturbed(original)), data, Recipe(5, 1e30, clip=1e30), seed=0)
    assert math.isfinite(loss)
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())


def test_distillation_loss_against_the_formula() -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 6, 4))

    def softmax(z: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(z) / np.exp(z).sum(1, keepdims=True))

    p, q = softmax(t / 3), softmax(s / 3)
    expected = (p * np.log(p / q)).sum(1).mean() * 9
    got = distillation((torch.from_numpy(s),), (torch.from_numpy(t),), 3.0)
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_probabilities_are_taken_back_to_logits() -> None:
    z = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    student, teacher = in_logits((z[0].softmax(1), z[0]), (z[1].softmax(1), z[1]))
    as_logits, plain = (
        distillation((s,), (t,), 3.0) for s, t in zip(student, teacher, strict=True)
    )
    torch.testing.assert_close(as_logits, plain, rtol=1e-4, atol=1e-6)


def test_views_are_shifts_and_mirrors() -> None:
    x = torch.arange(3 * 32 * 32, dtype=torch.float32).view(1, 3, 32, 32).repeat(40, 1, 1, 1)
    views = flip_and_crop(x, torch.Generator().manual_seed(0))
    assert views.shape == x.shape
    steps = views[:, 0, 16, 10:22].diff(dim=1)  # +1 along a row, -1 where mirrored
    directions = set(steps[:, 5].tolist())
    assert directions == {1.0, -1.0}
    corners = {tuple(v[:, 16, 16].tolist()) for v in views}
    assert len(corners) > 20
    for colours in corners:  # channels stay together
        assert colours[1] - colours[0] == colours[2] - colours[1] == 1024
