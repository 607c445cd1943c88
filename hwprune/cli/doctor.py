"""`hwprune doctor`: is this installation fit to run?"""

import click

from hwprune.doctor import requirements, targets
from hwprune.errors import BackendError
from hwprune.report.text import align


@click.command("doctor")
@click.pass_context
def command(ctx: click.Context, /) -> None:
    """Check the versions and targets of this installation; exit status 5 if one is unfit."""
    needs, found = requirements(), targets()
    rows = [(n.name, n.found or "missing", f"needs {n.wanted}", n.fit) for n in needs]
    rows += [(t.name, "target", t.what, t.usable) for t in found]
    for line, (*_, good) in zip(align((r[:3] for r in rows), right=False), rows, strict=True):
        click.echo(f"{'ok ' if good else 'BAD'}  {line}")
    if not all(good for *_, good in rows):
        ctx.exit(BackendError.exit_code)
