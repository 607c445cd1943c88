"""A small residual network that was trained on digits, once for all tests here."""

from dataclasses import dataclass

import onnx_graphsurgeon as gs
import pytest
import torch
from torch import Tensor, nn

from hwprune.frontend.data import load_data
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.module import graph_from_module
from hwprune.frontend.split import split
from hwprune.graph.channels import Coupling
from hwprune.graph.coupling import couple
from hwprune.graph.read import clone
from hwprune.network.run import outputs, top1
from hwprune.network.twin import to_module, write_back
from hwprune.train.batchnorm import normalized
from hwprune.train.loop import fit
from hwprune.train.recipe import Recipe


class Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.block1, self.block2 = Block(16, 24), Block(16, 24)
        self.down = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.block3 = Block(32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.block1(torch.relu(self.stem(x))))
        x = self.block3(torch.relu(self.down(x)))
        return torch.as_tensor(self.head(x.mean((2, 3))))


@dataclass(frozen=True)
class Trained:
    """A trained network, what it was trained on, and images it has not seen."""

    graph: gs.Graph
    coupling: Coupling
    train: DataSet
    held_out: DataSet

    def accuracy(self, graph: gs.Graph) -> float:
        x = torch.from_numpy(self.held_out.batch(slice(None)))
        assert self.held_out.y is not None
        return top1(outputs(to_module(graph), x)[0], self.held_out.y)

    @property
    def calibration(self) -> Tensor:
        return torch.from_numpy(self.train.batch(slice(0, 256)))


@pytest.fixture(scope="session")
def digits() -> Trained:
    torch.manual_seed(0)
    graph = graph_from_module(Digits(), (torch.zeros(1, 1, 8, 8),))
    parts = split(load_data("digits", (1, 1, 8, 8), classes=10))
    module = to_module(graph)
    with normalized(module, parts.train, 0):
        recipe = Recipe(20, 0.1, label_weight=1.0)
        fit(module, to_module(graph), parts.train, recipe, 0)
    trained = clone(graph)
    write_back(module, trained)
    return Trained(trained, couple(trained), parts.train, parts.search)
