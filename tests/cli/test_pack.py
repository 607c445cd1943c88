"""`hwprune pack` and `hwprune unpack`: what goes in comes out, and bounds are kept."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import Result
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hwprune.codec.decoder import decode
from hwprune.codec.packing import pack_exact
from hwprune.frontend.data import load_data
from hwprune.frontend.models import load_model
from hwprune.frontend.split import split
from hwprune.graph.read import to_proto

Run = Callable[..., Result]
Array = NDArray[Any]
ELEMENTS = 64 * 256 + 256 * 10  # of the small network


def value(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def built(nodes: list[onnx.NodeProto], shape: tuple[int, ...], **tensors: Array) -> onnx.ModelProto:
    """A network from input x to output y of 1 x 10."""
    fixed = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    graph = helper.make_graph(nodes, "g", [value("x", *shape)], [value("y", 1, 10)], fixed)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def features(x: Array, hidden: Array) -> Array:
    return np.maximum(x.reshape(len(x), -1) @ hidden, 0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random features of the digits, and a head that was fitted to them by least squares."""
    rng = np.random.default_rng(0)
    data = split(load_data("digits", (1, 1, 8, 8), classes=10)).train
    (x,), hidden = data.inputs(slice(0, len(data))), rng.normal(size=(64, 256)) / 8
    seen = features(x, hidden)
    wanted = np.eye(10)[np.asarray(data.y)] - 0.1
    head = np.linalg.solve(seen.T @ seen + 10 * np.eye(256), seen.T @ wanted)
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "hidden"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "head"], ["y"]),
    ]
    weights = {"hidden": hidden.astype(np.float32), "head": head.astype(np.float32)}
    path = tmp_path_factory.mktemp("pack") / "small.onnx"
    path.write_bytes(built(nodes, (1, 1, 8, 8), **weights).SerializeToString())
    return path


def packed(hwprune: Run, model: Path, *options: object) -> Any:
    """The report of a `pack` that meets what it was asked for; the file is at out.hwp."""
    result = hwprune("pack", model, "-o", "out.hwp", "--json", *options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["verdict"] == "met"
    assert report["size_bytes"]["compiled"] == Path("out.hwp").stat().st_size
    assert report["size_bytes"]["original"] == model.stat().st_size
    return report


def test_the_bundled_network_comes_back_to_the_last_bit(hwprune: Run, tmp_path: Path) -> None:
    model = to_proto(load_model(None, None).graph).SerializeToString()
    (tmp_path / "digits.onnx").write_bytes(model)
    result = hwprune("pack", "digits.onnx")
    assert result.exit_code == 0, result.output
    assert "met:" in result.stdout
    assert "the same to the last bit" in result.stdout
    assert "file: digits.hwp" in result.stdout
    assert Path("digits.hwp").stat().st_size < 0.93 * len(model)
    result = hwprune("unpack", "digits.hwp", "-o", "again.onnx")
    assert result.exit_code == 0, result.output
    assert Path("again.onnx").read_bytes() == model
    assert "again.onnx" in result.stdout


def test_the_report_of_an_exact_file(hwprune: Run, small: Path) -> None:
    report = packed(hwprune, small)
    assert report["codec"] == "exact"
    assert report["quality"] is None
    assert report["parameters"] == ELEMENTS
    assert decode(Path("out.hwp").read_bytes()).model == small.read_bytes()


def test_a_rate_is_kept_and_used(hwprune: Run, small: Path) -> None:
    report = packed(hwprune, small, "--rate", 4)
    assert 3.5 < report["bits_per_weight"] <= 4
    assert report["codec"] == "deadzone"
    assert report["quality"]["metric"] == "unknown"
    model = onnx.load_model_from_string(decode(Path("out.hwp").read_bytes()).model)
    before = onnx.load_model_from_string(small.read_bytes())
    for a, b in zip(model.graph.initializer, before.graph.initializer, strict=True):
        x, y = numpy_helper.to_array(a), numpy_helper.to_array(b)
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert 0 < np.square(x - y).mean() < 0.1 * y.var()


def test_a_size_is_kept_and_used(hwprune: Run, small: Path) -> None:
    packed(hwprune, small, "--max-size", "6kB", "--data", "digits")
    assert 5000 < Path("out.hwp").stat().st_size <= 6000


@pytest.mark.parametrize(("most", "share"), [(1.5, 0.2), (95, 0.05)])
def test_a_drop_is_kept_and_used(hwprune: Run, small: Path, most: float, share: float) -> None:
    """What holds on the search data may not hold on the others: that is said, then."""
    result = hwprune(
        *("pack", small, "-o", "out.hwp", "--json", "--max-drop", most, "--data", "digits")
    )
    report = json.loads(result.stdout)
    quality = report["quality"]
    assert quality["metric"] == "top1"
    assert quality["original"] > 0.95
    lost = 100 * (quality["original"] - quality["compiled"])
    assert lost <= most + 3
    assert report["verdict"] == ("met" if lost <= most else "missed")
    assert result.exit_code == (0 if lost <= most else 4)
    assert Path("out.hwp").stat().st_size < share * len(pack_exact(small.read_bytes()).file)


def test_codecs_by_name(hwprune: Run, small: Path) -> None:
    report = packed(hwprune, small, "--codec", "surp", "--rate", 5)
    assert report["codec"] == "surp"
    assert decode(Path("out.hwp").read_bytes()).codec == "surp"
    file = Path("out.hwp").read_bytes()
    Path("cut.hwp").write_bytes(file[: len(file) - 1000])
    result = hwprune("unpack", "cut.hwp")
    assert result.exit_code == 0, result.output
    assert "ends early" in result.stderr
    onnx.checker.check_model(Path("cut.onnx").read_bytes())


@pytest.mark.parametrize(
    "bound",
    [
        ("--rate", 0.01),
        ("--max-size", "300B"),
        ("--max-size", "2kB", "--max-drop", 0.1, "--data", "digits"),
    ],
)
def test_what_cannot_be_met(hwprune: Run, small: Path, bound: tuple[object, ...]) -> None:
    assert "hint: " in refused(hwprune, 4, "pack", small, "-o", "out.hwp", *bound)


def test_the_same_file_every_time(hwprune: Run, small: Path) -> None:
    files = []
    for name in ("a.hwp", "b.hwp"):
        assert hwprune("pack", small, "-o", name, "--rate", 3).exit_code == 0
        files.append(Path(name).read_bytes())
    assert files[0] == files[1]


# What cannot be packed


def refused(hwprune: Run, status: int, *arguments: object) -> str:
    """Nothing is written; what is said."""
    before = sorted(Path().rglob("*"))
    result = hwprune(*arguments)
    assert result.exit_code == status, result.output
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(Path().rglob("*")) == before
    return result.stderr


def product(**tensors: Array) -> bytes:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return built([node], (1, 20), **tensors).SerializeToString()


W = np.random.default_rng(0).normal(size=(20, 10)).astype(np.float32)
NAN = np.where(W > 2, np.float32(np.nan), W)
CONTENTS = {
    "nothing": (b"", "empty"),
    "noise": (b"\x07" * 64, "not an ONNX model"),
    "text": (b"no protobuf at all", "bad.onnx"),
    "no network": (helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString(), "no"),
    "cut off": (product(w=W)[:-100], "bad.onnx"),
    "NaN": (product(w=NAN), "'w'"),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("options", [(), ("--rate", 4)])
def test_files_that_are_no_model(hwprune: Run, name: str, options: tuple[object, ...]) -> None:
    content, said = CONTENTS[name]
    Path("bad.onnx").write_bytes(content)
    assert said in refused(hwprune, 3, "pack", "bad.onnx", *options)


def test_files_that_are_not_there(hwprune: Run) -> None:
    Path("folder.onnx").mkdir()
    assert "nowhere.onnx" in refused(hwprune, 3, "pack", "nowhere.onnx")
    assert "nowhere.hwp" in refused(hwprune, 3, "unpack", "nowhere.hwp")
    for verb in ("pack", "unpack"):  # click's own error
        result = hwprune(verb, "folder.onnx")
        assert result.exit_code in (2, 3)
        assert "folder.onnx" in result.stderr


def test_tensors_without_elements_are_packed(hwprune: Run) -> None:
    model = product(w=W, nothing=np.zeros((0, 4), np.float32), one=np.array(1.5, np.float32))
    Path("m.onnx").write_bytes(model)
    assert hwprune("pack", "m.onnx").exit_code == 0
    assert hwprune("unpack", "m.hwp", "--force", "-o", "m.onnx").exit_code == 0
    assert Path("m.onnx").read_bytes() == model


def test_models_that_do_not_run_lose_nothing(hwprune: Run) -> None:
    """Exactly, any file can be packed; for a loss, what weights do must be known."""
    node = helper.make_node("Unheard", ["x", "w"], ["y"], domain="com.example")
    Path("odd.onnx").write_bytes(built([node], (1, 20), w=W).SerializeToString())
    assert hwprune("pack", "odd.onnx").exit_code == 0
    said = refused(hwprune, 3, "pack", "odd.onnx", "-o", "lossy.hwp", "--rate", 4)
    assert "com.example" in said
    assert "without a bound" in said


def test_a_model_without_outputs(hwprune: Run) -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1)], [])
    Path("mute.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    refused(hwprune, 3, "pack", "mute.onnx", "--rate", 4)


def test_files_that_are_there_are_kept(hwprune: Run, small: Path) -> None:
    Path("thesis.hwp").write_text("years of work")
    Path("thesis.onnx").write_text("years of work")
    for verb, source, target in (
        ("pack", small, "thesis.hwp"),
        ("unpack", "thesis.hwp", "thesis.onnx"),
    ):
        assert "--force" in refused(hwprune, 2, verb, source, "-o", target)
        assert Path(target).read_text() == "years of work"
    assert hwprune("pack", small, "-o", "thesis.hwp", "--force").exit_code == 0
    assert decode(Path("thesis.hwp").read_bytes()).model == small.read_bytes()


def test_folders_that_are_not_there(hwprune: Run, small: Path) -> None:
    target = Path("nowhere", "out.hwp")
    assert str(target) in refused(hwprune, 7, "pack", small, "-o", target)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-drop", 1), "--data"),
        (("--rate", 2, "--max-size", "1kB"), "give one"),
        (("--codec", "exact", "--rate", 2), "exact"),
        (("--codec", "zip"), "zip"),
        (("--rate", 2, "--shape", "z=1,1,8,8"), "'z'"),
    ],
)
def test_options_that_do_not_go_together(
    hwprune: Run, small: Path, options: tuple[object, ...], said: str
) -> None:
    assert said in refused(hwprune, 2, "pack", small, "-o", "out.hwp", *options)


# What cannot be unpacked


def test_damaged_files(hwprune: Run, small: Path) -> None:
    file = pack_exact(small.read_bytes()).file
    for content, said in (
        (b"", "no .hwp file"),
        (small.read_bytes(), "no .hwp file"),
        (file[:-100], "too early"),
        (file[:500] + b"?" + file[501:], "checksum"),
    ):
        Path("bad.hwp").write_bytes(content)
        message = refused(hwprune, 3, "unpack", "bad.hwp")
        assert "bad.hwp" in message
        assert said in message
        assert "hint: " in message


def test_a_limit_of_size(hwprune: Run, small: Path) -> None:
    assert hwprune("pack", small, "-o", "a.hwp").exit_code == 0
    for arguments in (("pack", small, "-o", "b.hwp"), ("unpack", "a.hwp", "-o", "b.onnx")):
        assert "limit" in refused(hwprune, 3, *arguments, "--max-model-size", "1kB")


def test_unpacking_imports_nothing_heavy(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.hwp"
    path.write_bytes(pack_exact(small.read_bytes()).file)
    script = (
        "import sys; from hwprune.cli.app import app\n"
        f"app(['unpack', {str(path)!r}], standalone_mode=False)\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'scipy', 'constriction', 'sklearn'}\n"
        "print(heavy & sys.modules.keys())\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert path.with_suffix(".onnx").read_bytes() == small.read_bytes()
