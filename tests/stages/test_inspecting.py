"""Looking into a file is quick: nothing heavy is loaded for it."""

import json
import subprocess
import sys

import onnx
import pytest
import torch
from torch import nn

import hwprune
from hwprune.frontend.module import graph_from_module
from hwprune.graph.read import to_proto

CODE = """
import json, sys
import hwprune
found = hwprune.inspect(sys.argv[1], shapes={"x": (1, 3, 12, 12)})
heavy = [m for m in ("torch", "brevitas", "onnxruntime", "scipy") if m in sys.modules]
print(json.dumps({"groups": len(found.groups), "heavy": heavy}))
"""


def test_a_file_is_inspected_without_torch(network):
    command = [sys.executable, "-P", "-c", CODE, str(network)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["groups"] > 2
    assert found["heavy"] == []


def test_steps_and_shares_are_those_of_the_layers(tmp_path):
    """The second convolution has two blocks, so channels of the first go in pairs."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3, groups=2))
    graph = graph_from_module(module, (torch.zeros(1, 3, 8, 8),))
    path = tmp_path / "net.onnx"
    onnx.save_model(to_proto(graph), path)
    found = hwprune.inspect(str(path))
    first, last = found.groups
    assert (first.width, first.step) == (4, 2)
    assert first.params_share == pytest.approx((216 + 8 + 432) / 668)
    assert (last.width * last.step, last.frozen is not None) == (12, True)
    assert last.params_share == pytest.approx((432 + 12) / 668)
