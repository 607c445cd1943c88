"""`hwprune targets`: what can be compiled for."""

import json

import click

from hwprune.cli import options as o
from hwprune.doctor import targets
from hwprune.report.text import align


@click.command("targets")
@o.json_option
def command(as_json: bool) -> None:
    """List the targets and whether they can be used here."""
    found = targets()
    if as_json:
        table = {t.name: {"usable": t.usable, "what": t.what} for t in found}
        click.echo(json.dumps(table, indent=1))
    else:
        click.echo("\n".join(align([(t.name, t.what) for t in found], right=False)))
