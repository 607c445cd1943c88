"""`hwprune explain`: what was done to a network, in words."""

from pathlib import Path

import click

from hwprune.report import Report
from hwprune.report.explain import explanation


@click.command("explain")
@click.argument("out_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(out_dir: Path) -> None:
    """Say what was rewritten in the network of OUT_DIR, and which kernel each layer got and why."""
    click.echo("\n".join(explanation(Report.read(out_dir))))
