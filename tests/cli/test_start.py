"""`hwprune` itself: help is instant, verbs are lazy."""

import importlib
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from hwprune.cli.app import _VERBS, app

CODE = """
import sys
from hwprune.cli import main
sys.argv = ["hwprune", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compile", "--help"]])
def test_help_loads_neither_torch_nor_onnxruntime(arguments: list[str]) -> None:
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not {"torch", "onnxruntime", "onnx", "numpy", "optuna"} & loaded


def test_help_answers_in_half_a_second() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", CODE, "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.5


def test_help_lists_every_verb() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert all(f"  {verb} " in text for verb in _VERBS)


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_its_command_and_help(verb: str) -> None:
    command = importlib.import_module(f"hwprune.cli.{verb}").command
    assert isinstance(command, click.Command)
    assert command.name == verb
    assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


def test_an_unknown_verb_gets_the_nearest_one() -> None:
    result = CliRunner().invoke(app, ["compil"])
    assert result.exit_code == 2
    assert "did you mean 'compile'" in result.stderr
