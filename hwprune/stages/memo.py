"""What runs for several targets share: results by what they were made from."""

from collections.abc import Callable, Hashable, Iterator
from hashlib import sha256
from typing import Any, TypeVar

import onnx_graphsurgeon as gs

from hwprune.graph.read import to_proto

T = TypeVar("T")


class Memo:
    """Remembers what was worked out from equal inputs, for as long as the process lives."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def of(self, key: Hashable, work: Callable[[], T]) -> T:
        """What `work` gave when `key` was asked for first; the key names everything it reads."""
        if key not in self._known:
            self._known[key] = work()
        found: T = self._known[key]
        return found


class Replayed:
    """What an iterator gives, while it gives it and as often as it is asked for afterwards."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source, self._seen = source, list[Any]()

    def __iter__(self) -> Iterator[Any]:
        yield from self._seen
        for found in self._source:
            self._seen.append(found)
            yield found


def graph_digest(graph: gs.Graph) -> str:
    """Names a graph with all its weights."""
    return sha256(to_proto(graph).SerializeToString()).hexdigest()
