"""`hwprune table`: the latency table as a file that can be looked at, moved and mended."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwprune.cli import options as o
from hwprune.errors import StoreError
from hwprune.report.text import align
from hwprune.store.paths import TABLE, cache_folder, existing_table

if TYPE_CHECKING:
    from hwprune.latency.exchange import Counts
    from hwprune.latency.inventory import Inventory
    from hwprune.latency.ledger import Ledger

_FILE = click.Path(dir_okay=False, path_type=Path)
_READ = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("table")
def command() -> None:
    """Show, check, export, import and merge latency tables.

    The table of this user lies in $HWPRUNE_CACHE, else in ~/.cache/hwprune.
    """


@command.command("show")
@click.option("--target", type=o.target_name, metavar="NAME", help="One target only.")
@o.json_option
def show(target: str | None, as_json: bool) -> None:
    """Show targets, rows by operator and precision, their age, and what is wrong with them."""
    from hwprune.latency.inventory import inventory

    with _opened() as ledger:
        found = inventory(ledger, target)
    if as_json:
        click.echo(json.dumps([asdict(i) for i in found], indent=1))
    else:
        click.echo("\n".join(line for i in found for line in _lines(i)) or "no rows")


@command.command("export")
@click.argument("file", type=_FILE)
def export(file: Path) -> None:
    """Write all sound rows to FILE as lines of JSON, with what they belong to and checksums."""
    from hwprune.latency.exchange import export_rows

    with _opened() as ledger:
        count = export_rows(ledger, file)
    click.echo(f"{count} rows written to {file}")


@command.command("import")
@click.argument("file", type=_READ)
@click.pass_context
def import_(ctx: click.Context, /, file: Path) -> None:
    """Take in rows that `export` wrote; exit status 7 if some were refused."""
    from hwprune.latency.exchange import import_rows

    with _opened(make=True) as ledger:
        _report(ctx, import_rows(ledger, file), file)


@command.command("merge")
@click.argument("other", type=_READ)
@click.pass_context
def merge(ctx: click.Context, /, other: Path) -> None:
    """Take in the rows of another table's .db file, which is left alone."""
    from hwprune.latency.exchange import merge_rows

    with _opened(make=True) as ledger:
        _report(ctx, merge_rows(ledger, other), other)


@command.command("check")
def check() -> None:
    """Check the file and every checksum in it; if one is bad (exit status 7), save the others."""
    with _opened() as ledger:
        total, bad = ledger.check()
        if bad:
            ledger.renew()
        if ledger.moved_aside:
            raise StoreError(
                "; ".join(ledger.notes) + (f"; {bad} of {total} entries were bad" if bad else ""),
                "nothing is left to do: the next run measures what is missing",
            )
    click.echo(f"{ledger.path}: {total} entries, all sound")


def _opened(make: bool = False) -> "Ledger":
    from hwprune.latency.ledger import Ledger

    return Ledger(cache_folder() / TABLE if make else existing_table())


def _report(ctx: click.Context, counts: "Counts", source: Path) -> None:
    kept = f"{counts.kept} not: ours are as good"
    click.echo(f"{source}: {counts.added} rows added, {counts.replaced} replaced, {kept}")
    if counts.refused:
        reasons = "; ".join(counts.reasons)
        click.echo(f"{counts.refused} refused: {reasons}", err=True)
        ctx.exit(StoreError.exit_code)


def _lines(found: "Inventory") -> Iterable[str]:
    """A target as people read it."""
    identity, rows = found.identity, sum(found.rows.values())
    yield "{backend}: {device}, {runtime}, threads {threads}".format(**identity)
    yield from align([("  " + kind, str(n)) for kind, n in found.rows.items()])
    if found.oldest is not None and found.newest is not None:
        yield f"  measured between {_date(found.oldest)} and {_date(found.newest)}"
    yield f"  {rows} rows, {found.unsteady} unsteady, {found.stale} stale, {found.damaged} damaged"
    if found.conditions:
        yield "  last under " + ", ".join(f"{k} {v}" for k, v in found.conditions.items())


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
