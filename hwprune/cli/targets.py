"""`hwprune targets`: what can be compiled for."""

import json

import click

from hwprune.cli import options as o
from hwprune.doctor import targets
from hwprune.registry import get_backend
from hwprune.report.lowering import LOWERING_HEAD, lowering_notes, lowering_rows
from hwprune.report.text import align


@click.command("targets")
@click.argument("name", required=False, type=o.target_name)
@o.json_option
def command(name: str | None, as_json: bool) -> None:
    """List the targets and whether they can be used here; with a NAME, what its kernels can do."""
    if name is not None:
        _lowering(name, as_json)
        return
    found = targets()
    if as_json:
        table = {t.name: {"usable": t.usable, "what": t.what} for t in found}
        click.echo(json.dumps(table, indent=1))
    else:
        click.echo("\n".join(align([(t.name, t.what) for t in found], right=False)))


def _lowering(name: str, as_json: bool) -> None:
    able = get_backend(name).capabilities()
    rows = list(lowering_rows(able))
    if as_json:
        table = {op: dict(zip(LOWERING_HEAD[1:], cells, strict=True)) for op, *cells in rows}
        click.echo(json.dumps({"operators": table, "notes": list(lowering_notes(able))}, indent=1))
        return
    click.echo("\n".join([*align([LOWERING_HEAD, *rows], right=False), "", *lowering_notes(able)]))
