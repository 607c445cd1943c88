"""`hwprune doctor`: what it prints and which exit status it has."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import Result
from hwprune.backends.null import NullBackend

Run = Callable[..., Result]


@pytest.mark.ort
def test_this_installation_is_fit(hwprune: Run) -> None:
    result = hwprune("doctor", "--quick")
    assert result.exit_code == 0, result.output
    for name in ("torch ", "onnxruntime ", "protobuf ", "cpu "):
        assert f"ok  {name}" in result.stdout
    for section in ("Target cpu", "Conditions", "Latency table", "What this means"):
        assert f"\n{section}\n" in result.stdout
    assert "leave out --quick" in result.stdout


def test_noise_is_measured_unless_it_is_left_out(hwprune: Run) -> None:
    assert "\nNoise\n" in hwprune("doctor", "--target", "null").stdout
    assert "\nNoise\n" not in hwprune("doctor", "--target", "null", "--quick").stdout


def test_json_holds_all_the_facts(hwprune: Run) -> None:
    found = json.loads(hwprune("doctor", "--target", "null", "--json").stdout)
    assert {v["name"] for v in found["versions"]} >= {"torch", "protobuf"}
    assert found["targets"][0] == {"name": "null", "usable": True, "what": "rules, null 1"}
    target = found["target"]
    assert target["identity"]["device"] == "rules"
    assert target["noise"]["level"] == "steady"
    assert target["table"]["path"]
    assert {"level", "what", "todo"} == set(found["advice"][0])


def test_a_target_that_was_asked_for_must_be_usable(
    hwprune: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NullBackend, "missing", lambda _self: "no clock: wind one up")
    result = hwprune("doctor", "--target", "null")
    assert result.exit_code == 5
    assert "wind one up" in result.stdout
    assert json.loads(hwprune("doctor", "--target", "null", "--json").stdout)["target"] is None
    assert hwprune("doctor", "--quick").exit_code == 0


def test_a_target_nobody_has_is_a_usage_error(hwprune: Run) -> None:
    result = hwprune("doctor", "--target", "nul")
    assert result.exit_code == 2
    assert "did you mean 'null'" in result.stderr


def test_versions_that_are_too_old_are_warned_of(
    hwprune: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwprune.doctor.installation._PROTOBUF", (">=999",))
    result = hwprune("doctor", "--target", "null", "--quick")
    assert result.exit_code == 0
    assert "BAD  protobuf" in result.stdout
    assert "pip install 'protobuf>=999'" in result.stdout


@pytest.mark.parametrize("package", ["numpy", "onnx"])
def test_a_package_that_is_not_there_is_named(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; from hwprune.cli.app import app; "
        "app(['doctor'])"
    )
    command = [sys.executable, "-P", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"import of {package} halted" in result.stdout
    assert "What this means\n  warning: cpu: " in result.stdout
