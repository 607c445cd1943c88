"""The command line, one thin file per verb."""


def main() -> None:
    """Entry point of `hwprune`."""
