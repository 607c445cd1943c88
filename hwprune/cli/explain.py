"""`hwprune explain`: what was done to a network, in words."""

from pathlib import Path

import click

from hwprune.report import Report
from hwprune.report.explain import explanation


@click.command("explain")
@click.argument("out_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(out_dir: Path) -> None:
    """Say why the network of OUT_DIR became what it is.

    What was rewritten; what each group of channels costs and is worth, and what its next step would
    be; which kernel each layer got.
    """
    click.echo("\n".join(explanation(Report.read(out_dir))))
