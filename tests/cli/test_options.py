"""Options: what people write wrongly is answered with what, why and how to write it."""

import pytest
from click.testing import CliRunner

from hwprune.cli.app import app
from hwprune.cli.compile import default_folder
from hwprune.cli.options import named_shape, numbers, settings


def refused(*arguments: str) -> str:
    """Runs `hwprune compile ...`, expects exit 2 and nothing on stdout; returns stderr."""
    result = CliRunner().invoke(app, ["compile", *arguments])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize("budget", ["0", "0ms", "-3ms", "10", "10 parsecs", "ms", "nanms", ""])
def test_nonsense_budgets(budget: str) -> None:
    message = refused("--budget", budget)
    assert f"budget {budget!r} is not a latency" in message
    assert "hint: write a positive number with its unit: 10ms" in message


def test_the_budget_is_required() -> None:
    assert "--budget" in refused()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "cpuu"], "did you mean 'cpu'"),
        (["--target", "cpu;rm"], "there is no target 'cpu;rm'"),
        (["--target", "cpu@ssh:-oProxyCommand=x"], "there is no target 'cpu@ssh:-oProxyCommand=x'"),
        (["--target", "gpu@ssh:edge"], "there is no target 'gpu'"),
        (["--runtime", "arena"], "write it as arena=off,graph=basic"),
        (["--runtime", "arena=off,"], "write it as arena=off,graph=basic"),
        (["--runtime", "arena=off", "--runtime", "arena=on"], "--runtime names 'arena' more than"),
        (["--runtime", "arena=yes"], "known: arena=on|off"),
        (["--target", "null", "--runtime", "arena=off"], "'null' has no runtime options"),
        (["--search", "knapsak"], "did you mean 'knapsack'"),
        (["--criterion", "obd"], "did you mean 'obs'"),
        (["--effort", "quik"], "did you mean 'quick'"),
        (["--percentile", "p51"], "p51"),
        (["--max-size", "5 miles"], "write it as 500kB"),
        (["--max-drop", "-1"], "-1"),
        (["--threads", "0"], "0"),
        (["--mean", "0.5;0.5"], "write it as 0.49,0.48,0.45"),
        (["--shape", "1,3,32,32"], "write it as x=1,3,32,32"),
        (["--shape", "x=1,0"], "write it as x=1,3,32,32"),
        (["--shape", "x=1,3", "--shape", "x=1,4"], "--shape names 'x' more than once"),
    ],
)
def test_bad_values_are_refused_with_a_hint(arguments: list[str], said: str) -> None:
    assert said in refused("--budget", "10ms", *arguments)


def test_settings() -> None:
    assert settings("arena=off, graph=basic") == (("arena", "off"), ("graph", "basic"))


def test_shapes_and_numbers() -> None:
    assert named_shape("image:0=1,3,32,32") == ("image:0", (1, 3, 32, 32))
    assert named_shape("a=b=2") == ("a=b", (2,))
    assert numbers("0.5, 1") == (0.5, 1.0)


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        (None, "digits-cpu"),
        ("nets/face slim.onnx", "face_slim-cpu"),
        ("package.module:factory", "factory-cpu"),
        ("resnet20", "resnet20-cpu"),
        ("../..", "network-cpu"),
    ],
)
def test_the_default_folder_is_named_after_model_and_target(model: str | None, folder: str) -> None:
    assert str(default_folder(model, "cpu")) == f"hwprune-out/{folder}"
    remote = default_folder(model, "cpu@ssh:pi@edge:22")
    assert str(remote) == f"hwprune-out/{folder}-edge"
