"""`hwprune pack`: an ONNX file as small as it can be."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from hwprune.cli import options as o
from hwprune.report.packing import packing_lines
from hwprune.units import parse_size

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("pack", context_settings={"show_default": True})
@click.argument("model", type=_FILE)
@click.option("-o", "--out", type=_FILE, help="Default: MODEL with the suffix .hwp.")
@o.method_option("codec", None)
@click.option("--max-size", type=parse_size, metavar="SIZE", help="Of the file: 500kB or 1.5MB.")
@click.option("--max-drop", type=click.FloatRange(min=0), help="Quality that may be lost, points.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="BITS",
    help="Bits that the whole file may take for each weight.",
)
@o.data_options
@o.shape_option
@o.model_size_option
@click.option("--threads", type=click.IntRange(min=1), help="Default: all that there are.")
@click.option("--seed", type=click.IntRange(min=0), default=0)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@o.json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: Path, out: Path | None, force: bool, as_json: bool, **values: Any
) -> None:
    """Write MODEL, any ONNX file, as a .hwp file that hwprune unpack turns back into it.

    Without a bound nothing is lost. With --max-size, --rate or --max-drop, weights are coded as
    coarsely as that allows; data (labels are not needed) make that much better. With -o x.onnx the
    result is an ONNX file itself, as small as weights without a decoder can be. Exit status 0: met,
    4: cannot be met.
    """
    out = o.new_file(out or model.with_suffix(".hwp"), force)
    progress = o.progress()
    with progress.stage("load"):
        from hwprune.stages.options import DataOptions
        from hwprune.stages.pack_options import PackOptions
        from hwprune.stages.packing import pack
    data = DataOptions(**{f.name: values.pop(f.name) for f in fields(DataOptions)})
    given = {name: value for name, value in values.items() if value is not None}
    report = pack(model, out, PackOptions(**given, data=data), progress)
    click.echo("\n".join([*packing_lines(report), f"file: {out}"]), err=as_json)
    if as_json:
        click.echo(report.to_json(), nl=False)
    ctx.exit(report.exit_code)
