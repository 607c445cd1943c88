"""The `hwprune` group: verbs are imported when they are called, so that help is instant."""

from importlib import import_module

import click

from hwprune import __version__
from hwprune.cli.failures import translated
from hwprune.registry import unknown

_VERBS = {
    "compile": "Prune and quantise a network until it meets a latency budget.",
    "search": "Take part in a compile's search, beside it or on another machine.",
    "profile": "Measure the latency table and show where a network's time goes.",
    "inspect": "Show what can be pruned in a network, and what cannot and why.",
    "pack": "Write an ONNX file as small as it can be: entropy-coded, exactly or within a bound.",
    "unpack": "Turn a packed file back into the ONNX file that it holds.",
    "verify": "Measure a finished artefact again.",
    "report": "Show the report of a finished run.",
    "explain": "Say what was rewritten and cut, which kernel each layer got, and why.",
    "table": "Show, check, export, import and merge latency tables.",
    "targets": "List the targets and whether they can be used here.",
    "methods": "List the methods that options take by name.",
    "doctor": "Check the installation and the machine, and say what that means.",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own, loaded on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of `_VERBS`."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Imports the verb's module; its `command` is the command."""
        if cmd_name not in _VERBS:
            raise unknown("command", cmd_name, _VERBS)
        command: click.Command = import_module(f"hwprune.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of verbs, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keeps the arguments: a run that is interrupted says how to resume."""
        ctx.obj = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Runs the verb; whatever goes wrong becomes a message and an exit status."""
        with translated(ctx):
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="hwprune %(version)s")
def app() -> None:
    """Compile a trained network for a device and a millisecond budget.

    The whole of it:  hwprune compile --target cpu --budget 10ms
    """
