"""A small network and random images that it is trained on to repeat another's answers."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import nn

from hwprune.frontend.dataset import DataSet
from hwprune.frontend.module import graph_from_module


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 12, 3, padding=1, groups=4)
        self.conv3 = nn.Conv2d(12, 16, 3, stride=2)
        self.linear = nn.Linear(256, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x).relu()
        x = x + self.conv2(x)
        x = self.conv3(x.relu()).relu().flatten(1)
        return torch.as_tensor(10 * self.linear(x))


@pytest.fixture(scope="module")
def original() -> gs.Graph:
    torch.manual_seed(0)
    return graph_from_module(Small(), (torch.zeros(1, 1, 9, 9),))


@pytest.fixture(scope="module")
def data() -> DataSet:
    return DataSet(np.random.default_rng(0).normal(size=(1500, 1, 9, 9)).astype(np.float32))
