"""The command line, one thin file per verb."""


def main() -> None:
    """Entry point of `hwprune`."""
    from hwprune.cli.app import app

    app(prog_name="hwprune")
