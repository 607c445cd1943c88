from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hwprune.models import MODELS
from onnx.reference import ReferenceEvaluator
from safetensors.torch import save_file
from torch import nn

from hwprune.errors import ModelError, UsageError
from hwprune.frontend.models import load_model
from hwprune.frontend.module import graph_from_module
from hwprune.graph.read import to_proto


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    return nn.Sequential(*layers)


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    code = "from torch import nn\ndef net():\n    return nn.Sequential("
    code += "nn.Conv2d(3,4,3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144,5))\n"
    (tmp_path / "own_net.py").write_text(code + "def number(): return 3\n")
    monkeypatch.chdir(tmp_path)
    return "own_net:net"


def test_factory_with_weights(tmp_path: Path, factory: str) -> None:
    module = net()
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.5, 1)
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    loaded = load_model(factory, tmp_path / "w.safetensors", {"x": (1, 3, 8, 8)}, batch=2)
    assert loaded.name == "net"
    x = torch.randn(2, 3, 8, 8)
    expected = module.eval()(x).detach().numpy()
    (got,) = ReferenceEvaluator(to_proto(loaded.graph)).run(
        None, {loaded.graph.inputs[0].name: x.numpy()}
    )
    np.testing.assert_allclose(np.asarray(got), expected, atol=1e-4)


def test_factory_problems(factory: str) -> None:
    with pytest.raises(UsageError, match="what shape") as error:
        load_model(factory, None, None)
    assert "--shape" in error.value.hint
    with pytest.raises(UsageError, match="returned a int"):
        load_model("own_net:number", None, {"x": (1, 3, 8, 8)})


def test_names_nobody_has(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model 'vgg16'") as error:
        load_model("vgg16", None, None)
    assert "'vgg16-bn'" in error.value.hint
    (tmp_path / "m.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="is not an"):
        load_model(str(tmp_path / "m.pt"), None, None)
    with pytest.raises(UsageError, match="its own weights"):
        load_model("m.onnx", Path("w"), None)


def test_onnx_file(tmp_path: Path) -> None:
    graph = graph_from_module(net(), (torch.zeros(1, 3, 8, 8),))
    onnx.save(to_proto(graph), tmp_path / "small.onnx")
    loaded = load_model(str(tmp_path / "small.onnx"), None, None)
    assert (loaded.name, loaded.normalization, loaded.data) == ("small", None, None)
    assert loaded.graph.outputs[0].shape == [1, 5]


def test_untrained_networks_say_so() -> None:
    loaded = load_model("resnet20", None, None)
    assert loaded.source == "bundled resnet20, untrained"
    assert loaded.normalization == MODELS["resnet20"].normalization
    assert loaded.graph.inputs[0].shape == [1, 3, 32, 32]


def test_export_keeps_training_mode_and_explains_failure() -> None:
    module = net().train()
    graph_from_module(module, (torch.zeros(1, 3, 8, 8),))
    assert module.training

    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match="Branches cannot be exported"):
        graph_from_module(Branches(), (torch.zeros(1, 3),))
