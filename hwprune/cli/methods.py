"""`hwprune methods`: the names that options take, and those that hwprune chooses among."""

import json

import click

from hwprune.cli import options as o
from hwprune.registry import CHOSEN, METHODS
from hwprune.report.text import align


@click.command("methods")
@o.json_option
def command(as_json: bool) -> None:
    """List the methods that --search, --criterion, --effort and the like take by name.

    Behind them the methods that hwprune itself chooses among, tensor by tensor.
    """
    if as_json:
        click.echo(json.dumps({**METHODS, **CHOSEN}, indent=1))
        return
    options = {f"--{kind}": methods for kind, methods in METHODS.items()}
    for heading, methods in {**options, **CHOSEN}.items():
        click.echo(heading)
        rows = [(f"  {name}", what) for name, what in methods.items()]
        click.echo("\n".join(align(rows, right=False)))
