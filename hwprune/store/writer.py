"""Stores results while the next ones are being made."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class Writer(Generic[Item]):
    """Hands items to `store` in a thread of its own, as soon as they come.

    What comes while `store` is busy goes into its next call: a commit of 10 ms neither holds up
    whoever measures, nor is it paid for every result where these come in bursts. A process that is
    killed loses what came during the last commit. Leaving the block waits until all is stored.

    Raises:
        Exception: Whatever `store` raised, by the next `put` or on leaving.
    """

    def __init__(self, store: Callable[[list[Item]], None]) -> None:
        self._store = store
        self._waiting: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def put(self, item: Item) -> None:
        """Leaves an item to be stored."""
        if self._error:
            raise self._error
        self._waiting.put(item)

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        if self._error and kind is None:
            raise self._error

    def _run(self) -> None:
        going = True
        while going:
            found = [self._waiting.get() for _ in range(max(1, self._waiting.qsize()))]
            going = found[-1] is not None
            if items := [item for item in found if item is not None]:
                self._flush(items)

    def _flush(self, items: list[Item]) -> None:
        try:
            if self._error is None:
                self._store(items)
        except Exception as error:
            self._error = error
