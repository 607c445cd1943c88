"""`package.module:factory`: the user's own Python code by name."""

import importlib
import sys
from pathlib import Path

from hwprune.errors import UsageError


def is_factory(spec: str) -> bool:
    """Whether the text has the form package.module:name."""
    module, colon, name = spec.partition(":")
    return bool(colon) and name.isidentifier() and all(p.isidentifier() for p in module.split("."))


def call_factory(spec: str) -> object:
    """Imports the module (the current directory counts) and calls the factory without arguments.

    What the factory raises passes through: it is the user's own code, and so is the traceback.
    Raises UsageError when there is no such module or factory.
    """
    module_name, _, name = spec.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        if e.name is None or not f"{module_name}.".startswith(f"{e.name}."):
            raise
        raise UsageError(
            f"{spec!r}: there is no module {e.name!r}",
            f"looked in {here} and the installed packages",
        ) from e
    factory = getattr(module, name, None)
    if not callable(factory):
        offered = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UsageError(
            f"{spec!r}: module {module_name!r} has no factory {name!r}",
            f"it offers: {', '.join(sorted(offered)) or 'nothing that can be called'}",
        )
    return factory()
