"""`hwprune unpack`: a .hwp file as the ONNX file that it holds."""

from pathlib import Path

import click

from hwprune.cli import options as o
from hwprune.codec.unpacking import unpack
from hwprune.store.files import write_atomic
from hwprune.units import format_bytes

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("unpack")
@click.argument("file", type=_FILE)
@click.option("-o", "--out", type=_FILE, help="Default: FILE with the suffix .onnx.")
@o.model_size_option
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(file: Path, out: Path | None, max_model_size: int, force: bool) -> None:
    """Write the ONNX file that FILE holds."""
    out = o.new_file(out or file.with_suffix(".onnx"), force)
    model, remark = unpack(file, max_model_size)
    write_atomic(out, model)
    if remark:
        click.echo(f"warning: {remark}", err=True)
    click.echo(f"{out}: {format_bytes(len(model))}")
