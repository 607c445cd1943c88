"""`hwprune search`: take part in a compile's search, on this machine or another."""

from pathlib import Path

import click

from hwprune.cli import options as o
from hwprune.errors import UsageError
from hwprune.search.strategy import Evaluated


@click.command("search", context_settings={"show_default": True})
@click.option(
    "--join",
    "study",
    metavar="STUDY",
    required=True,
    help="Its name (--study of the compile), or the compile's output folder on this machine.",
)
@click.argument("model", required=False)
@o.storage_option
@click.option("--data", help="What this machine calls the data. Default: as the compile does.")
@click.option("--wait", type=click.FloatRange(min=0), default=60.0, metavar="SECONDS",
              help="Ends when nothing was to be done for so long.")  # fmt: skip
def command(
    study: str, model: str | None, storage: str | None, data: str | None, wait: float
) -> None:
    """Evaluate candidates of a search that hwprune compile has started, beside it.

    Any number of processes may join, each evaluates other candidates, and each may be stopped at
    any time. MODEL is what this machine calls the model; without it, it is called as it was there.
    """
    progress = o.progress()
    with progress.stage("load"):
        from hwprune.stages.joining import join_search, standing
    where, name = _place(study, storage)
    with progress.stage(f"search {study}", total=1) as stage:

        def report(done: int, total: int, best: Evaluated | None) -> None:
            stage.update(done / total, standing(done, total, best))

        made = join_search(where, name, model, data, wait, report)
    click.echo(f"{made} evaluations made here")


def _place(study: str, storage: str | None) -> tuple[str | Path, str | None]:
    """The storage, and the name in it; an output folder holds one search's trials only."""
    if storage is not None:
        return storage, study
    trials = Path(study) / "run" / "trials.db"
    if not trials.is_file():
        raise UsageError(
            f"{study!r} is no output folder with trials", "name its --storage, or the folder"
        )
    return trials, None
