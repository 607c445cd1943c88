"""`hwprune methods`: the names that options take, and those that hwprune chooses among."""

import json
from collections.abc import Iterator, Mapping

import click

from hwprune.cli import options as o
from hwprune.registry import ADVICE, CHOSEN, METHODS
from hwprune.report.text import align


@click.command("methods")
@o.json_option
def command(as_json: bool) -> None:
    """List the methods that --search, --criterion, --effort and the like take by name.

    With what each needs and what it is good for. Behind them the methods that hwprune itself
    chooses among, tensor by tensor.
    """
    if as_json:
        advice = {
            kind: {
                name: dict(zip(("needs", "good_for"), told, strict=True))
                for name, told in of.items()
            }
            for kind, of in ADVICE.items()
        }
        click.echo(json.dumps({**METHODS, **CHOSEN, "advice": advice}, indent=1))
        return
    for kind, methods in {**METHODS, **CHOSEN}.items():
        click.echo(f"--{kind}" if kind in METHODS else kind)
        click.echo("\n".join(align(_rows(kind, methods), right=False)))


def _rows(kind: str, methods: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """A line for each, and one more for what it needs and is good for."""
    for name, what in methods.items():
        yield f"  {name}", what
        if name in ADVICE.get(kind, {}):
            needs, good_for = ADVICE[kind][name]
            yield "", f"needs {needs}; for {good_for}"
