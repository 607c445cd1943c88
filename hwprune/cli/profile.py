"""`hwprune profile`: build or extend the latency table, and show where a network's time goes."""

from pathlib import Path
from typing import Any

import click

from hwprune.cli import options as o
from hwprune.cli.compile import default_folder
from hwprune.report.layers import layer_lines

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("profile", context_settings={"show_default": True})
@click.argument("model", required=False)
@o.target_option
@click.option("--threads", type=click.IntRange(min=1), help="Default: the runtime's own choice.")
@click.option("--batch", type=click.IntRange(min=1), default=1)
@o.runtime_option
@click.option("--weights", type=_FILE, help="For a factory or a bundled network.")
@o.shape_option
@o.model_size_option
@o.foreign_option
@click.option("--plot", is_flag=True, help="Write staircase.png, shares.png and profile.html, too.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where --plot writes; default: hwprune-out/<model>-<target>.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0)
@o.json_option
def command(model: str | None, plot: bool, out: Path | None, as_json: bool, **values: Any) -> None:
    """Measure what the latency table misses for MODEL and print its layers with their times.

    Without MODEL a general grid is measured, which all networks on this target share. What was
    measured is kept: an interrupted profile goes on where it stopped, and `hwprune compile` uses
    the same table.
    """
    from hwprune.stages.layer_table import ProfileOptions, profile_grid, profile_model

    progress = o.progress()
    options = ProfileOptions(model, **values)
    if model is None:
        found = profile_grid(options, progress)
        click.echo(found.to_json() if as_json else "\n".join(found.lines()), nl=not as_json)
        return
    profiled = profile_model(options, progress)
    table = profiled.table
    click.echo(table.to_json() if as_json else "\n".join(layer_lines(table)), nl=not as_json)
    if plot:
        from hwprune.stages.profile_plots import write_plots

        for path in write_plots(profiled, out or default_folder(model, options.target)):
            click.echo(f"wrote {path}", err=True)
