"""`hwprune doctor`: is this installation fit to run, what is this machine, what follows from it?"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hwprune.cli import options as o
from hwprune.doctor import requirements, target_state, targets
from hwprune.doctor.advice import installation_advice, ordered, target_advice
from hwprune.doctor.text import advice_lines, installation_lines, target_lines
from hwprune.errors import BackendError

if TYPE_CHECKING:
    from hwprune.doctor.checkup import Checkup


@click.command("doctor")
@click.option("--target", type=o.target_name, metavar="NAME", help="The device.  [default: cpu]")
@click.option("--quick", is_flag=True, help="Do not measure how noisy the machine is.")
@o.json_option
@click.pass_context
def command(ctx: click.Context, /, target: str | None, quick: bool, as_json: bool) -> None:
    """Show versions, targets, what the device is, how noisy it is now, and what that means.

    Exit status 5 if the target that was asked for cannot be used.
    """
    asked = target_state(target or "cpu")
    needs, found = requirements(), [asked, *(t for t in targets() if t.name != asked.name)]
    if not as_json:
        _say(installation_lines(needs, found))
    checkup = _examine(asked.name, quick) if asked.usable else None
    advice = [*installation_advice(needs, found), *(target_advice(checkup) if checkup else ())]
    if as_json:
        document = {
            "versions": [asdict(n) for n in needs],
            "targets": [asdict(t) for t in found],
            "target": _document(checkup),
            "advice": [asdict(a) for a in ordered(advice)],
        }
        click.echo(json.dumps(document, indent=1, allow_nan=False))
    else:
        _say(target_lines(checkup) if checkup else ())
        _say(advice_lines(ordered(advice)))
    if target and not asked.usable:
        ctx.exit(BackendError.exit_code)


def _examine(target: str, quick: bool) -> "Checkup":
    with o.progress().stage("examine"):
        # Imported late: versions and targets are shown even where numpy or onnx are missing.
        from hwprune.doctor.checkup import examine

        return examine(target, noise=not quick)


def _document(checkup: "Checkup | None") -> dict[str, Any] | None:
    if checkup is None:
        return None
    noise = checkup.noise
    measured = noise and asdict(noise) | {"resolution": noise.resolution, "level": noise.level}
    return asdict(checkup) | {"noise": measured}


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
