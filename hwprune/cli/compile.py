"""`hwprune compile`: the whole product."""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hwprune.cli import options as o
from hwprune.progress import Silent
from hwprune.registry import known_target
from hwprune.report import Report, print_report
from hwprune.report.front import Front, rows
from hwprune.report.text import align
from hwprune.units import parse_budget, parse_size

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("compile", context_settings={"show_default": True})
@click.argument("model", required=False)
@o.targets_option
@click.option(
    "--budget",
    type=parse_budget,
    metavar="TIME",
    help="10ms, 800us, or 0.4x of the measured original. Without one: the fastest network that "
    "keeps --max-drop, or the best within --max-size and --max-memory that is no slower.",
)
@click.option("--percentile", type=click.Choice(["p50", "p90", "p99"]), default="p50")
@click.option("--max-drop", type=click.FloatRange(min=0), help="Quality that may be lost, points.")
@click.option("--max-size", type=parse_size, metavar="SIZE", help="Of the file: 500kB or 1.5MB.")
@click.option(
    "--max-memory",
    type=parse_size,
    metavar="SIZE",
    help="Of the activations that are there at once, at any step: 200kB.",
)
@click.option(
    "--pareto",
    type=click.IntRange(min=1),
    metavar="N",
    help="N networks along the front of time against quality, in folders of their own.",
)
@click.option("--weights", type=_FILE, help=".safetensors, or a state dict of tensors.")
@o.data_options
@o.shape_option
@o.model_size_option
@click.option("--batch", type=click.IntRange(min=1), default=1)
@click.option("--threads", type=click.IntRange(min=1), help="Default: the runtime's own choice.")
@o.runtime_option
@o.method_option("effort", "quick")
@click.option("--epochs", type=click.IntRange(min=0), help="Training epochs, whatever the effort.")
@click.option(
    "--train-minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Minutes of training, instead of epochs.",
)
@click.option(
    "--schedule",
    metavar="NAME[:SETTINGS]",
    default="one-shot",
    help="How channels go while the network is trained, as increg or sfp:share=0.6; see hwprune "
    "methods.",
)
@o.recipe_option
@o.method_option("search", "bo")
@o.method_option("criterion", "obs")
@o.method_option("saliency", "measured")
@o.method_option("sensitivity", "kl")
@click.option("--evaluations", type=click.IntRange(min=1), help="Candidates the search evaluates.")
@o.storage_option
@click.option("--study", metavar="NAME", help="What others join. Default: <model>-<target>.")
@o.foreign_option
@click.option("--pack", is_flag=True, help="Write model.hwp, too: see hwprune pack.")
@click.option("--seed", type=click.IntRange(min=0), default=0)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Default: hwprune-out/<model>-<target>.",
)
@click.option("--force", is_flag=True, help="Start afresh, replacing what the folder holds.")
@click.option("-v", "--verbose", is_flag=True, help="Show every layer, too.")
@o.json_option
@click.pass_context
def command(
    ctx: click.Context, /, as_json: bool, verbose: bool, targets: tuple[str, ...], **values: Any
) -> None:
    """Prune and quantise MODEL until it meets a latency budget, and prove that it does.

    MODEL is a .onnx file, a package.module:factory, or the name of a bundled network; without it
    the bundled digits network is compiled. Exit status 0: met, 4: cannot be met, 6: too noisy;
    with several targets the highest.
    """
    rank = int(os.environ.get("RANK", "0"))  # of those that torchrun has started
    progress = o.progress() if rank == 0 else Silent()
    with progress.stage("load"):  # takes seconds: torch and onnxruntime
        from hwprune import compiler
        from hwprune.stages import following
        from hwprune.train.distributed import begin
    if begin()[1] > 1:
        ctx.call_on_close(following.dismiss if rank == 0 else lambda: None)
    if rank:
        following.follow(compiler.CompileOptions(**values, target=targets[0]))
        return
    if len(targets) > 1:
        values["out"] = values["out"] or Path("hwprune-out") / safe_name(values["model"])
        options = compiler.CompileOptions(**values)
        found = compiler.compile_for(targets, options, progress)
        ctx.exit(_print_all(found, options.out or Path(), as_json, verbose))
    values["out"] = values["out"] or default_folder(values["model"], targets[0])
    options = compiler.CompileOptions(**values, target=targets[0])
    if options.pareto:
        ctx.exit(_print_front(compiler.pareto(options, progress), values["out"], as_json))
    report = compiler.compile(options, progress)
    print_report(report, values["out"], sys.stderr if as_json else sys.stdout, layers=verbose)
    if as_json:
        click.echo(report.to_json(), nl=False)
    ctx.exit(report.exit_code)


def _print_front(front: Front, out: Path, as_json: bool) -> int:
    """The table, or the front as JSON; returns the exit status."""
    click.echo("\n".join(align(rows(front))), err=as_json)
    click.echo(f"files: {out / 'front.json'}, {out / 'front.html'}", err=as_json)
    if as_json:
        click.echo(front.to_json(), nl=False)
    return front.exit_code


def _print_all(reports: Mapping[str, Report], out: Path, as_json: bool, verbose: bool) -> int:
    """One after the other, or as one JSON object by folder; returns the highest exit status."""
    stream = sys.stderr if as_json else sys.stdout
    for folder, report in reports.items():
        click.echo(f"\n{folder}", file=stream)
        print_report(report, out / folder, stream, layers=verbose)
    if as_json:
        documents = {folder: json.loads(report.to_json()) for folder, report in reports.items()}
        click.echo(json.dumps(documents, indent=2))
    return max(report.exit_code for report in reports.values())


def default_folder(model: str | None, target: str) -> Path:
    """hwprune-out/<model>-<target>."""
    return Path("hwprune-out") / f"{safe_name(model)}-{known_target(target).label}"


def safe_name(model: str | None) -> str:
    """The model named as briefly as it can be, fit for a folder."""
    name = Path((model or "digits").rpartition(":")[2]).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "network"
