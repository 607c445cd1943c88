"""How options are written on the command line, and read."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from hwprune.errors import UsageError
from hwprune.progress import Progress, progress_on
from hwprune.registry import known_method, known_target
from hwprune.units import parse_size

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")

foreign_option = click.option(
    "--allow-foreign-table",
    is_flag=True,
    help="Search by another machine's latencies where this one has none; never judge by them.",
)

storage_option = click.option(
    "--storage",
    metavar="URL",
    help="Where the search keeps its trials, for others to join: a file of SQLite, or "
    "postgresql://user@host/database. Default: in the output folder.",
)


def target_name(text: str) -> str:
    """The name of an installed target, on this machine or another. Raises UsageError."""
    known_target(text)
    return text


def target_option(function: F) -> F:
    """`--target cpu`, `--target cpu@ssh:user@host`."""
    option = click.option(
        "--target",
        type=target_name,
        metavar="NAME",
        default="cpu",
        show_default=True,
        help="The device: cpu, or cpu@ssh:[user@]host[:port][/path/to/python] for another machine.",
    )
    return option(function)


def targets_option(function: F) -> F:
    """`--target cpu`, repeatable."""
    option = click.option(
        "--target",
        "targets",
        type=target_name,
        metavar="NAME",
        multiple=True,
        default=("cpu",),
        show_default="cpu",
        help="The device: cpu, or cpu@ssh:[user@]host[:port][/path/to/python] for another machine. "
        "Given more than once, each gets a folder of its own; what they share is measured once.",
    )
    return option(function)


def settings(text: str) -> tuple[tuple[str, str], ...]:
    """Reads 'arena=off,graph=basic'. Raises UsageError."""
    pairs = tuple(part.strip().partition("=") for part in text.split(","))
    if any(not name or not value for name, _, value in pairs):
        raise UsageError(f"{text!r} is no list of options", "write it as arena=off,graph=basic")
    return tuple((name, value) for name, _, value in pairs)


def _settings_option(flag: str, help_text: str) -> Callable[[F], F]:
    """An option that takes settings separated by commas, repeatable."""
    return click.option(
        flag,
        multiple=True,
        type=settings,
        metavar="NAME=VALUE",
        callback=lambda ctx, param, groups: as_mapping(ctx, param, sum(groups, ())),
        help=help_text,
    )


def runtime_option(function: F) -> F:
    """`--runtime arena=off,spinning=off`, repeatable."""
    option = _settings_option(
        "--runtime",
        "How the runtime is set up, where it changes time. cpu: arena=on|off, "
        "spinning=on|off, graph=all|extended|basic|disable; separated by commas, or repeated.",
    )
    return option(function)


def recipe_option(function: F) -> F:
    """`--recipe optimizer=adamw,ema=0.999`, repeatable."""
    option = _settings_option(
        "--recipe",
        "How to train: optimizer=sgd|adamw, curve=cosine|step|constant, rate, warmup, "
        "weight-decay, temperature, label-weight, label-smoothing, feature-weight, mixup, ema, "
        "clip, half=on|off; separated by commas, or repeated.",
    )
    return option(function)


def method_option(kind: str, default: str | None) -> Callable[[F], F]:
    """`--search bo`: an option that takes a method of that kind by name."""
    return click.option(
        f"--{kind}",
        metavar="NAME",
        default=default,
        callback=lambda _ctx, _param, name: None if name is None else known_method(kind, name),
        help="See hwprune methods.",
    )


def numbers(text: str) -> tuple[float, ...]:
    """Reads '0.49,0.48,0.45'. Raises UsageError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as e:
        raise UsageError(f"{text!r} is not a list of numbers", "write it as 0.49,0.48,0.45") from e


def named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Reads 'x=1,3,32,32'. Raises UsageError."""
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 1:
        raise UsageError(f"{text!r} is not the shape of an input", "write it as x=1,3,32,32")
    return name, shape


def as_mapping(_ctx: click.Context, param: click.Parameter, pairs: Any) -> dict[str, Any]:
    """Callback for a repeatable name=value option; a name given twice is an error."""
    names = [name for name, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"{param.opts[0]} names {min(twice)!r} more than once", "give each once")
    return dict(pairs)


def shape_option(function: F) -> F:
    """`--shape x=1,3,32,32`, once per input."""
    option = click.option(
        "--shape",
        "shapes",
        multiple=True,
        type=named_shape,
        metavar="NAME=N,C,H,W",
        callback=as_mapping,
        help="Shape of an input, where the model leaves it open; repeatable.",
    )
    return option(function)


def model_size_option(function: F) -> F:
    """`--max-model-size 4GiB`: larger files are not read."""
    option = click.option(
        "--max-model-size",
        type=parse_size,
        metavar="SIZE",
        default="4GiB",
        show_default=True,
        help="Larger model files are refused unread.",
    )
    return option(function)


def data_options(function: F) -> F:
    """`--data`, `--train-data`, `--eval-data`, and how images are normalised."""
    for option in reversed(
        (
            click.option(
                "--data", help="Folder of class folders, .npz, package.module:factory, or digits."
            ),
            click.option("--train-data", help="Data for calibration and training alone."),
            click.option("--eval-data", help="Data for the final figures alone."),
            click.option(
                "--mean", type=numbers, metavar="NUMBERS", help="Per channel: 0.49,0.48,0.45."
            ),
            click.option("--std", type=numbers, metavar="NUMBERS", help="Per channel."),
            click.option(
                "--scale",
                type=click.FloatRange(min=0, min_open=True),
                help="What 1.0 is in pixels.",
            ),
        )
    ):
        function = option(function)
    return function


def new_file(path: Path, force: bool) -> Path:
    """Where a file may be written. Raises UsageError where there is one already."""
    if path.exists() and not force:
        raise UsageError(f"{path} is there already", "give another -o, or --force to replace it")
    return path


def progress() -> Progress:
    """Progress goes to stderr, so that stdout holds nothing but the answer."""
    return progress_on(sys.stderr)
