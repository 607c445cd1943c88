"""The README's two commands, and that the gate runs what the README says."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAIN = (
    "python3 -m venv .venv && .venv/bin/pip install -q . && "
    ".venv/bin/hwprune compile --target cpu --budget 10ms"
)
TESTS = (
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python tools/test"
)


def test_the_readme_states_both_commands_near_its_top() -> None:
    top = (ROOT / "README.md").read_text("utf-8").splitlines()[:40]
    assert MAIN in map(str.strip, top)
    assert TESTS in map(str.strip, top)


def test_the_gate_runs_the_second_command_and_the_checks() -> None:
    gate = (ROOT / ".ci" / "run").read_text("utf-8").replace('"', "").replace("$venv", ".venv")
    assert TESTS in gate
    assert ".venv/bin/python tools/check" in gate
