"""What is being done, how far it is and how long it still takes: on a terminal, in a log, nowhere.

    with progress.stage("profile", total=len(kernels)) as stage:
        stage.update(3, "Conv 64x64x3x3 int8")

Everything goes to one stream, normally stderr, so that stdout stays free for results.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_SECONDS_BETWEEN_LINES = 5.0


class Stage(Protocol):
    """One running stage."""

    def update(self, done: float, text: str = "") -> None:
        """`done` of the stage's total is finished; `text` is what is being done now."""


def in_fractions(stage: Stage) -> Callable[[int, int, str], None]:
    """A (done, total, text) callback for a stage of total 1."""
    return lambda done, total, text: stage.update(done / max(1, total), text)


class Progress(Protocol):
    """Where stages report to."""

    def stage(self, name: str, total: float | None = None) -> AbstractContextManager[Stage]:
        """Opens a stage of `total` steps (None: not known) and closes it on leaving."""

    def note(self, text: str) -> None:
        """One line that stays visible."""


def progress_on(stream: TextIO) -> Progress:
    """Bars if `stream` is a terminal, plain lines if not."""
    return Terminal(stream) if stream.isatty() else Lines(stream)


class Silent:
    """Says nothing: the default for callers from Python."""

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Stage]:
        """See `Progress`."""
        yield _SilentStage()

    def note(self, text: str) -> None:
        """See `Progress`."""


class _SilentStage:
    def update(self, done: float, text: str = "") -> None:
        pass


class Lines:
    """Time-stamped lines: when a stage starts, every five seconds at most, and when it ends."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Stage]:
        """See `Progress`."""
        start = self._clock()
        self.note(f"{name} ...")
        yield _LinesStage(self, name, total, start, self._clock)
        self.note(f"{name} done in {self._clock() - start:.1f} s")

    def note(self, text: str) -> None:
        """See `Progress`."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=self._stream, flush=True)


class _LinesStage:
    def __init__(
        self,
        lines: Lines,
        name: str,
        total: float | None,
        start: float,
        clock: Callable[[], float],
    ) -> None:
        self._lines, self._name, self._total = lines, name, total
        self._start = self._spoken = start
        self._clock = clock

    def update(self, done: float, text: str = "") -> None:
        now = self._clock()
        if now - self._spoken < _SECONDS_BETWEEN_LINES:
            return
        self._spoken = now
        self._lines.note(f"{self._name}{self._fraction(done, now)}{text and f': {text}'}")

    def _fraction(self, done: float, now: float) -> str:
        if not self._total:
            return f" ({_span(now - self._start)})"
        left = remaining(done, self._total, now - self._start)
        return f" {done / self._total:.0%}" + ("" if left is None else f", {_span(left)} left")


class Terminal:
    """A bar for the running stage and one line for each that is finished."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console: Console | None = None

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Stage]:
        """See `Progress`."""
        start = time.monotonic()
        with _bars(self._rich()) as bars:
            yield _TerminalStage(bars, bars.add_task(name, total=total, text=""))
        self._rich().print(f"[green]done[/] {name:<10} [dim]{_span(time.monotonic() - start)}[/]")

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._rich().print(text, markup=False, highlight=False)

    def _rich(self) -> "Console":
        if self._console is None:
            from rich.console import Console

            self._console = Console(file=self._stream)
        return self._console


@dataclass(frozen=True, slots=True)
class _TerminalStage:
    bars: "Bars"
    task: "TaskID"

    def update(self, done: float, text: str = "") -> None:
        self.bars.update(self.task, completed=done, text=text)


def _bars(console: "Console") -> "Bars":
    """Name, bar, percentage, elapsed, remaining, and what is being done."""
    from rich import progress
    from rich.table import Column

    shown = Column(no_wrap=True, ratio=1, overflow="ellipsis")  # takes what the others leave
    return progress.Progress(
        progress.TextColumn("{task.description:<10}", markup=False),
        progress.BarColumn(bar_width=16),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[text]}", markup=False, table_column=shown),
        console=console,
        transient=True,
        expand=True,
    )


def remaining(done: float, total: float, elapsed: float) -> float | None:
    """Seconds left at the pace so far, or None before the first step."""
    return None if done <= 0 else max(0.0, elapsed * (total - done) / done)


def _span(seconds: float) -> str:
    """'4.2 s' or '2:05 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
