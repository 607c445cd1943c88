"""`hwprune verify`: a finished artefact, measured again."""

from pathlib import Path

import click

from hwprune.cli import options as o
from hwprune.report.lines import verification_lines


@click.command("verify")
@click.argument("out_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--target",
    type=o.target_name,
    metavar="NAME",
    help="Default: the one that it was compiled for, set up as then.",
)
@o.json_option
@click.pass_context
def command(ctx: click.Context, /, out_dir: Path, target: str | None, as_json: bool) -> None:
    """Check parity and latency of the artefact in OUT_DIR again."""
    progress = o.progress()
    with progress.stage("load"):
        from hwprune import compiler
    result = compiler.verify(out_dir, progress, target)
    click.echo("\n".join(verification_lines(result)), err=as_json)
    if as_json:
        click.echo(result.to_json(), nl=False)
    ctx.exit(result.exit_code)
