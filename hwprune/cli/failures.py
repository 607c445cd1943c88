"""What goes wrong, as a message on stderr and an exit status; never a bare traceback."""

import errno
import os
import shlex
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from hwprune.errors import HwpruneError, StoreError

INTERRUPTED = 130
_CLICKS_OWN = (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError)


@contextmanager
def translated(ctx: click.Context) -> Iterator[None]:
    """Errors of a verb as exit statuses; HWPRUNE_DEBUG lets unexpected ones through."""
    try:
        yield
    except _CLICKS_OWN:
        raise
    except HwpruneError as e:
        _fail(ctx, e)
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted; resume with: {shlex.join(['hwprune', *ctx.obj])}", err=True)
        ctx.exit(INTERRUPTED)
    except Exception as e:
        if os.environ.get("HWPRUNE_DEBUG"):
            raise
        _fail(ctx, _no_space(e) if _is_no_space(e) else _internal(e))


def _fail(ctx: click.Context, error: HwpruneError) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    if error.hint:
        click.echo(f"{click.style('hint:', bold=True)} {error.hint}", err=True)
    ctx.exit(error.exit_code)


def _is_no_space(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _no_space(error: Exception) -> HwpruneError:
    return StoreError(
        f"the disk is full: {error}", "free some space and run the same command again: it resumes"
    )


def _internal(error: Exception) -> HwpruneError:
    """An error nobody foresaw, its traceback written where it can be attached to a report."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="hwprune-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        traceback.print_exception(error, file=log)
    return HwpruneError(
        f"internal error: {type(error).__name__}: {error}",
        f"the traceback is in {log.name}; unless it ends in code of yours, this is our fault",
    )
