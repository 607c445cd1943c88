"""The command line, one thin file per verb."""

import signal
import sys

_TERMINATED = 128 + signal.SIGTERM


def main() -> None:
    """Entry point of `hwprune`."""
    from hwprune.cli.app import app

    # As an exception, so that children are ended and temporary files removed on the way out.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(_TERMINATED))
    app(prog_name="hwprune")
