"""A progress that also remembers how long each stage took."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from time import perf_counter

from hwprune.progress import Progress, Stage
from hwprune.report.schema import Stage as Spent


class Recorder:
    """Passes everything on to another progress and keeps the seconds."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Stage]:
        """See `Progress`."""
        start = perf_counter()
        try:
            with self._inner.stage(name, total) as stage:
                yield stage
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + perf_counter() - start

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._inner.note(text)

    def spent(self, resumed: Collection[str] = ()) -> tuple[Spent, ...]:
        """Seconds by stage, in the order they first ran."""
        return tuple(Spent(n, round(s, 3), n in resumed) for n, s in self._seconds.items())
