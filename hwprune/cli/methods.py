"""`hwprune methods`: the names that options take."""

import json

import click

from hwprune.cli import options as o
from hwprune.registry import METHODS
from hwprune.report.text import align


@click.command("methods")
@o.json_option
def command(as_json: bool) -> None:
    """List the methods that --search, --criterion and --effort take by name."""
    if as_json:
        click.echo(json.dumps(METHODS, indent=1))
        return
    for kind, methods in METHODS.items():
        click.echo(f"--{kind}")
        rows = [(f"  {name}", what) for name, what in methods.items()]
        click.echo("\n".join(align(rows, right=False)))
