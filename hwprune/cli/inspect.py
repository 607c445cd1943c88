"""`hwprune inspect`: what could be pruned."""

from collections.abc import Mapping
from pathlib import Path

import click

from hwprune.cli import options as o
from hwprune.report.lines import inspection_lines


@click.command("inspect")
@click.argument("model", required=False)
@click.option("--weights", type=click.Path(dir_okay=False, path_type=Path), help="For a factory.")
@o.shape_option
@o.model_size_option
@o.json_option
def command(
    model: str | None,
    weights: Path | None,
    shapes: Mapping[str, tuple[int, ...]],
    max_model_size: int,
    as_json: bool,
) -> None:
    """Show the groups of coupled channels of MODEL: widths, cost, and what is frozen and why."""
    from hwprune.stages.inspecting import inspect

    inspection = inspect(model, weights, shapes, max_model_size)
    if as_json:
        click.echo(inspection.to_json(), nl=False)
    else:
        click.echo("\n".join(inspection_lines(inspection)))
