"""What is sent to measure. Not yet on its own: it needs the hwprune that is installed there."""

import sys


def main() -> None:
    """Hands over to the worker."""
    for name in ("hwprune", "hwprune.backends", "hwprune.backends.cpu"):
        sys.modules.pop(name)
    from hwprune.backends.cpu import worker

    worker.main()
