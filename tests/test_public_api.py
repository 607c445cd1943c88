"""`import hwprune`: every public name is there, comes from where it says, and costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hwprune

SOURCE = Path(hwprune.__file__)


@pytest.mark.parametrize("name", hwprune.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    value = getattr(hwprune, name)
    assert value.__name__ == name
    assert value.__doc__


def test_names_for_checkers_and_for_the_interpreter_are_the_same() -> None:
    block = next(n for n in ast.parse(SOURCE.read_text()).body if isinstance(n, ast.If))
    typed = {a.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert typed == hwprune._HOME
    assert set(hwprune.__all__) == set(hwprune._HOME) <= set(dir(hwprune))


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'complie'"):
        hwprune.complie  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    code = "import hwprune, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "onnxruntime", "onnx", "numpy"} & set(loaded.stdout.split())
