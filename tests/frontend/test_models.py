import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hwprune.models import MODELS
from onnx.reference import ReferenceEvaluator
from safetensors.torch import save_file
from torch import nn

from hwprune.errors import DataError, ModelError, UsageError
from hwprune.frontend.models import load_model
from hwprune.frontend.module import graph_from_module
from hwprune.frontend.weights import assign, load_state_dict
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


Save = Callable[[dict[str, torch.Tensor], Path], None]


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    "save", [save_file, torch.save, lambda s, p: torch.save({"state_dict": s, "epoch": 3}, p)]
)
def test_state_dicts_round_trip(tmp_path: Path, save: Save, prefix: str) -> None:
    module = net()
    path = tmp_path / ("w.safetensors" if save is save_file else "w.pt")
    save({prefix + k: v for k, v in module.state_dict().items()}, path)
    loaded = load_state_dict(path)
    assert loaded.keys() == module.state_dict().keys()
    assert all(torch.equal(loaded[k], v) for k, v in module.state_dict().items())


def test_half_precision_becomes_float() -> None:
    module = net()
    state = {k: v.half() if v.is_floating_point() else v for k, v in net().state_dict().items()}
    assign(module, state, Path("w"))
    weight = module.get_parameter("0.weight")
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state["0.weight"].float())


def test_weights_that_do_not_fit() -> None:
    state = net().state_dict()
    del state["0.weight"]
    state |= {"9.bias": torch.zeros(1), "4.weight": torch.zeros(2, 2)}
    pattern = r"1 missing \(0.weight\); 1 unexpected \(9.bias\); 4.weight is \(2, 2\).*\(5, 144\)"
    with pytest.raises(DataError, match=pattern):
        assign(net(), state, Path("w"))


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('ran')",)


def _script(path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(path)  # type: ignore[no-untyped-call]


def _exported(path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), path)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("w.pt", lambda p: torch.save({"a": _Evil()}, p), "not a plain state dict"),
        ("w.pt", lambda p: torch.save([1], p), "holds a list"),
        ("w.pt", lambda p: torch.save({"a": 1}, p), "entry 'a' is a int"),
        ("w.pt", lambda p: p.write_bytes(b"junk"), "not a plain state dict"),
        ("w.pt", _script, "TorchScript"),
        ("w.pt", _exported, "exported program"),
        ("w.pt2", lambda p: zipfile.ZipFile(p, "w").close(), "exported program"),
        ("w.safetensors", lambda p: p.write_bytes(b"junk"), "not a safetensors file"),
        ("w.pt", lambda p: torch.save({"a": torch.tensor([torch.nan])}, p), "'a' holds NaN"),
        ("w.pt", lambda p: None, "no such file"),
    ],
)
def test_unusable_weights(
    tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(DataError, match=message):
        load_state_dict(tmp_path / name)
