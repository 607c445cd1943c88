"""Every kind of failure: the message on stderr, the exit status, no bare traceback."""

import errno
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from hwprune import errors
from hwprune.cli.app import app


def run_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Result:
    """`hwprune inspect "my net.onnx"` where it fails with `error`."""

    def inspect(*_: object) -> None:
        raise error

    inspecting = ModuleType("hwprune.stages.inspecting")
    inspecting.inspect = inspect  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hwprune.stages.inspecting", inspecting)
    return CliRunner().invoke(app, ["inspect", "my net.onnx"])


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.HwpruneError, 1),
        (errors.UsageError, 2),
        (errors.ModelError, 3),
        (errors.UnsupportedModelError, 3),
        (errors.UnsafeModelError, 3),
        (errors.DataError, 3),
        (errors.InfeasibleError, 4),
        (errors.BackendError, 5),
        (errors.NoisyError, 6),
        (errors.StoreError, 7),
    ],
)
def test_our_errors(
    kind: type[errors.HwpruneError], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_with(kind("what and why", "what next"), monkeypatch)
    assert result.exit_code == status
    assert result.stderr == "error: what and why\nhint: what next\n"
    assert result.stdout == ""


def test_interruption_says_how_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_with(KeyboardInterrupt(), monkeypatch)
    assert result.exit_code == 130
    assert "resume with: hwprune inspect 'my net.onnx'" in result.stderr


def test_a_full_disk_is_a_store_error(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_with(OSError(errno.ENOSPC, "No space left on device", "plan.json"), monkeypatch)
    assert result.exit_code == 7
    assert "disk is full" in result.stderr
    assert "plan.json" in result.stderr


def test_a_fault_of_ours_writes_its_traceback_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_with(RuntimeError("oops"), monkeypatch)
    assert result.exit_code == 1
    assert "internal error: RuntimeError: oops" in result.stderr
    assert "Traceback" not in result.stderr
    found = re.search(r"traceback is in (\S+);", result.stderr)
    assert found
    log = Path(found[1])
    assert "RuntimeError: oops" in log.read_text()
    log.unlink()


def test_debugging_lets_the_traceback_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWPRUNE_DEBUG", "1")
    assert isinstance(run_with(RuntimeError("oops"), monkeypatch).exception, RuntimeError)
