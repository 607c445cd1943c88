"""`hwprune.prune`: structure only, for people who know other pruning libraries."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from hwprune.errors import UsageError
from hwprune.graph.coupling import couple
from hwprune.graph.read import canonical
from hwprune.library import prune
from hwprune.testing.networks import build_model, residual


class Block(nn.Module):
    """Two convolutions around a residual, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 24, 3, padding=1)
        self.outer = nn.Conv2d(24, 16, 3, padding=1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.outer(torch.relu(self.inner(x)))
        return self.head(x.mean((2, 3)))


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return Block().eval()


def test_a_module_comes_back_as_a_slim_module(module: nn.Module) -> None:
    example = torch.randn(1, 3, 8, 8)
    slim = prune(module, 0.5, example=example)
    assert slim(torch.randn(4, 3, 8, 8)).shape == (4, 5)
    widths = sorted(m.out_channels for m in slim.modules() if isinstance(m, nn.Conv2d))
    assert widths == [8, 8, 12]
    assert module.inner.out_channels == 24


def test_channels_that_say_nothing_cost_nothing(module: Block) -> None:
    """Dead channels go first, and what is left computes the same."""
    with torch.no_grad():
        for tensor in (module.inner.weight, module.inner.bias):
            tensor[::2] = 0
    x = torch.randn(4, 3, 8, 8)
    group = next(g for g in couple_of(module) if g.width == 24)
    slim = prune(module, {group.name: 12}, example=x[:1])
    torch.testing.assert_close(slim(x), module(x))


def test_calibration_refits_what_is_left(module: nn.Module) -> None:
    x = torch.randn(256, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def error(slim: nn.Module) -> float:
        with torch.no_grad():
            return float((slim(x[128:]) - module(x[128:])).square().mean())

    plain = prune(module, 0.5, example=x[:1])
    refitted = prune(module, 0.5, example=x[:1], calibration=x[:128])
    assert error(refitted) < 0.5 * error(plain)


@pytest.mark.ort
def test_onnx_comes_back_as_onnx(tmp_path) -> None:
    model = build_model(residual)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    shapes = {"x": (1, 3, 8, 8)}
    slim = prune(path, 0.5, shapes=shapes)
    assert slim == prune(model, 0.5, shapes=shapes)
    onnx.checker.check_model(slim)
    session = ort.InferenceSession(slim.SerializeToString())
    assert session.run(None, {"x": np.zeros((1, 3, 8, 8), np.float32)})[0].shape == (1, 5)
    full = {g.name: g.width for g in couple(canonical(model, shapes)).groups}
    cut = {g.name: g.width for g in couple(canonical(slim)).groups}
    assert sum(cut.values()) < sum(full.values())


def test_impossible_widths_are_explained(module: nn.Module) -> None:
    example = torch.randn(1, 3, 8, 8)
    groups = couple_of(module)
    name = groups[0].name
    for widths, reason in (
        ({name: 0}, "cannot stay"),
        ({name: 10**6}, "cannot stay"),
        ({name: 0.0}, "shares lie in"),
        ({name[:-1] + "?": 4}, "group"),
    ):
        with pytest.raises(UsageError) as caught:
            prune(module, widths, example=example)
        assert reason in f"{caught.value} {caught.value.hint}"
    with pytest.raises(UsageError, match="shape of its input"):
        prune(module, 0.5)  # type: ignore[call-overload]


def test_frozen_groups_stay(module: nn.Module) -> None:
    frozen = next(g for g in couple_of(module) if g.frozen)
    with pytest.raises(UsageError, match="cannot be pruned"):
        prune(module, {frozen.name: 1}, example=torch.randn(1, 3, 8, 8))


def couple_of(module: nn.Module):  # type: ignore[no-untyped-def]
    """The groups of the module."""
    from hwprune.frontend.module import graph_from_module

    return couple(graph_from_module(module, (torch.randn(1, 3, 8, 8),))).groups


class _Two(nn.Module):
    """Two inputs that meet, two outputs that leave, and a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.shared = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(8, 8)
        self.heads = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 2)])

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        met = torch.relu(self.left(a)) * torch.sigmoid(self.right(b))
        deep = torch.relu(self.shared(torch.relu(self.shared(met))))
        return self.heads[0](deep), self.heads[1](met)


def test_several_inputs_and_outputs():
    example = (torch.randn(1, 6), torch.randn(1, 4))
    slim = prune(_Two().eval(), 0.5, example=example)
    first, second = slim(*example)
    assert (first.shape, second.shape) == ((1, 3), (1, 2))
    assert sum(p.numel() for p in slim.parameters()) < 0.6 * sum(
        p.numel() for p in _Two().parameters()
    )


def test_calibration_needs_a_single_input():
    example = (torch.randn(1, 6), torch.randn(1, 4))
    with pytest.raises(UsageError, match="2 inputs"):
        prune(_Two(), 0.5, example=example, calibration=torch.randn(8, 6))
