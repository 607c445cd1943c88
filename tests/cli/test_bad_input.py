"""Bad input to `compile`: what, where, why and what next; the exit status; nothing written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

Run = Callable[..., Result]
ASK = ("--target", "null", "--budget", "0.5x", "--out", "out")


def refused(hwprune: Run, status: int, *arguments: object) -> str:
    """Runs `hwprune compile`, expects the status, a hint, and no output folder; returns stderr."""
    result = hwprune("compile", *arguments, *ASK)
    assert result.exit_code == status, result.output
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not Path("out", "model.onnx").exists()
    assert not Path("out", "report.json").exists()
    return result.stderr


def test_a_model_that_is_not_there(hwprune: Run) -> None:
    assert "nowhere.onnx" in refused(hwprune, 3, "nowhere.onnx")


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"not a protobuf at all", b"\x08\x08"])
def test_a_file_that_is_no_model(hwprune: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "noise.onnx").write_bytes(content)
    assert "noise.onnx" in refused(hwprune, 3, tmp_path / "noise.onnx")


def test_a_folder_in_place_of_a_model(hwprune: Run, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    assert "folder.onnx" in refused(hwprune, 3, tmp_path / "folder.onnx")


def test_an_unknown_bundled_network(hwprune: Run) -> None:
    assert "did you mean 'digits'" in refused(hwprune, 2, "digitz")


@pytest.mark.parametrize(
    "factory", ["no_such_package:net", "json:no_such_factory", "json:JSONDecoder"]
)
def test_a_factory_that_makes_no_network(hwprune: Run, factory: str) -> None:
    result = hwprune("compile", factory, *ASK)
    assert result.exit_code in (2, 3)
    assert factory.split(":")[0] in result.stderr


def test_an_open_input_shape_asks_for_the_shape(hwprune: Run, open_batch: Path) -> None:
    result = hwprune("inspect", open_batch)
    if result.exit_code != 0:  # the batch may be taken as 1, every other size must be given
        assert result.exit_code == 3
        assert "--shape x=" in result.stderr


def test_a_shape_for_an_input_that_is_not_there(hwprune: Run, classifier: Path) -> None:
    result = hwprune("compile", classifier, "--shape", "z=1,3,8,8", *ASK)
    assert result.exit_code in (2, 3)
    assert "'z'" in result.stderr


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((8, 1, 5, 5), np.float32), np.zeros(8, np.int64), "5"),
        (np.zeros((8, 3, 8, 8), np.float32), np.full(8, 4), "4"),
        (np.zeros((8, 3, 8, 8), np.float32), np.zeros(7, np.int64), "7"),
        (np.full((8, 3, 8, 8), np.nan, np.float32), np.zeros(8, np.int64), "finite"),
        (np.zeros((0, 3, 8, 8), np.float32), np.zeros(0, np.int64), "no samples"),
    ],
    ids=["shape", "label range", "lengths", "nan", "empty"],
)
def test_data_that_does_not_fit(
    hwprune: Run, classifier: Path, x: np.ndarray, y: np.ndarray, said: str
) -> None:
    np.savez("data.npz", x=x, y=y)
    assert said in refused(hwprune, 3, classifier, "--data", "data.npz")


@pytest.mark.parametrize("data", ["nowhere.npz", "small.onnx", "no_such_package:data"])
def test_data_that_cannot_be_read(hwprune: Run, classifier: Path, data: str) -> None:
    result = hwprune("compile", classifier, "--data", data, *ASK)
    assert result.exit_code in (2, 3), result.output
    assert data.split(":")[0] in result.stderr


def test_weights_that_are_not_there(hwprune: Run) -> None:
    message = refused(hwprune, 3, "resnet20", "--weights", "nowhere.safetensors")
    assert "nowhere.safetensors" in message


def test_a_folder_that_holds_something_else_is_left_alone(hwprune: Run, classifier: Path) -> None:
    Path("out").mkdir()
    Path("out", "thesis.tex").write_text("years of work")
    result = hwprune("compile", classifier, *ASK)
    assert result.exit_code in (2, 7), result.output
    assert "--force" in result.stderr
    assert [path.name for path in Path("out").iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_output_folder(hwprune: Run, classifier: Path) -> None:
    Path("out").write_text("")
    assert hwprune("compile", classifier, *ASK).exit_code == 2


@pytest.mark.parametrize("verb", ["verify", "report"])
def test_a_folder_without_an_artefact(hwprune: Run, verb: str, tmp_path: Path) -> None:
    result = hwprune(verb, tmp_path)
    assert result.exit_code in (2, 7), result.output
    assert "hint: " in result.stderr


def test_a_damaged_report(hwprune: Run, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"schema": 1, "verdict": "met"}')
    result = hwprune("report", tmp_path)
    assert result.exit_code == 7
    assert "not a report" in result.stderr
