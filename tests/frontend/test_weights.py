"""State dicts: what is read, and what is refused before it can do anything."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hwprune.errors import DataError
from hwprune.frontend.weights import assign, load_state_dict


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    return nn.Sequential(*layers)


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


class _Imports:
    """The import alone would run a module's code."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return __import__, ("this",)


def _pickle(content: bytes) -> Callable[[Path], None]:
    """A checkpoint whose pickle is these opcodes."""

    def write(path: Path) -> None:
        torch.save({"a": torch.zeros(2)}, path)
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in entries.items():
                archive.writestr(name, content if name.endswith("data.pkl") else data)

    return write


def _compressed(path: Path) -> None:
    """A zip bomb: zeros that unpack to a thousand times the file."""
    torch.save({"a": torch.zeros(1 << 22)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def _cut(path: Path) -> None:
    torch.save(net().state_dict(), path)
    path.write_bytes(path.read_bytes()[40:])


def _safe(header: bytes | dict[str, object], data: bytes = bytes(16)) -> Callable[[Path], None]:
    """A safetensors file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(text)) + text + data) and None


def _floats(begin: int, end: int, shape: tuple[int, ...] = (2,)) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


_TWICE = b'{"a":%s,"a":%s}' % ((json.dumps(_floats(0, 8)).encode(),) * 2)


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
        ("w.pt", lambda p: torch.save({"a": _Imports()}, p), "not a plain state dict"),
        ("w.pt", _pickle(b"cos\nsystem\n(S'touch ran'\ntR."), "not a plain state dict"),
        ("w.pt", _pickle(b"ctorch\nload\n(S'/etc/passwd'\ntR."), "not a plain state dict"),
        ("w.pt", _pickle(b"ctorch.hub\nload\n(S'a/b'\nS'c'\ntR."), "not a plain state dict"),
        ("w.pt", _compressed, "in memory, the limit is"),
        ("w.pt", _cut, "damaged archive|not a plain state dict"),
        ("w.pt", lambda p: torch.save({"a": torch.zeros(1).expand(1 << 40)}, p), "in memory, the"),
        ("w.pt", lambda p: torch.save({"a": torch.eye(3).to_sparse()}, p), "not a plain tensor"),
        ("w.pt", lambda p: torch.save({"a": torch.empty(9, device="meta")}, p), "plain"),
        ("w.safetensors", _safe({"a": _floats(0, 8), "b": _floats(4, 12)}), "not a safetensors"),
        ("w.safetensors", _safe({"a": _floats(0, 80)}), "not a safetensors"),
        ("w.safetensors", _safe({"a": _floats(0, 16, (1 << 62, 4))}), "not a safetensors"),
        ("w.safetensors", _safe(_TWICE), "not a safetensors"),
        ("w.safetensors", _safe(b" " * (101 << 20)), "not a safetensors"),
        ("w.safetensors", lambda p: p.write_bytes(b"\xff" * 64), "not a safetensors"),
    ],
)
def test_unusable_weights(
    tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(DataError, match=message):
        load_state_dict(tmp_path / name)


@pytest.mark.parametrize("save", [save_file, torch.save])
def test_files_over_the_limit_are_not_read(tmp_path: Path, save: Save) -> None:
    path = tmp_path / ("w.safetensors" if save is save_file else "w.pt")
    save(net().state_dict(), path)
    with pytest.raises(DataError, match=r"the limit is 1 kB") as refusal:
        load_state_dict(path, max_bytes=1000)
    assert "--max-model-size" in refusal.value.hint


def test_weights_that_are_shared_or_expanded_a_little_are_read(tmp_path: Path) -> None:
    one = torch.randn(64, 64)
    torch.save({"a": one, "b": one, "c": one[:1].expand(64, 64)}, tmp_path / "w.pt")
    assert set(load_state_dict(tmp_path / "w.pt")) == {"a", "b", "c"}


def test_an_old_torch_reads_no_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(net().state_dict(), tmp_path / "w.pt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    with pytest.raises(DataError, match=r"torch 2.5.1\+cu121 does not read them safely"):
        load_state_dict(tmp_path / "w.pt")
