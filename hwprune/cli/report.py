"""`hwprune report`: the report of a finished run, again."""

import sys
from pathlib import Path

import click

from hwprune.cli import options as o
from hwprune.report import Report, print_report


@click.command("report")
@click.argument("out_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-v", "--verbose", is_flag=True, help="Show every layer, too.")
@o.json_option
def command(out_dir: Path, verbose: bool, as_json: bool) -> None:
    """Show the report of the finished run in OUT_DIR."""
    report = Report.read(out_dir)
    if as_json:
        click.echo(report.to_json(), nl=False)
    else:
        print_report(report, out_dir, sys.stdout, layers=verbose)
