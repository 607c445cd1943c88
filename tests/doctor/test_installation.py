"""Requirements against what is installed."""

import pytest

from hwprune.doctor import installation as doctor


def test_every_requirement_is_looked_at() -> None:
    names = {need.name for need in doctor.requirements()}
    assert {"python", "torch", "onnx", "onnxruntime", "brevitas", "protobuf"} <= names
    assert "pytest" not in names


@pytest.mark.parametrize(
    ("found", "fit"),
    [
        ("5.29.5", False),
        ("5.29.6", True),
        ("6.33.4", False),
        ("6.33.5", True),
        ("7.0", True),
        (None, False),
    ],
)
def test_safety_floors(found: str | None, fit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda _name: found)
    assert {n.name: n.fit for n in doctor.requirements()}["protobuf"] is fit


def test_a_target_that_cannot_be_used_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError(f"no runtime for {name}")

    monkeypatch.setattr(doctor, "get_backend", broken)
    monkeypatch.setattr(doctor, "backend_names", lambda: ["npu"])
    assert doctor.targets() == [doctor.TargetState("npu", False, "no runtime for npu")]
