"""Many things a few at a time, so that what is done with them takes little memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Thing = TypeVar("Thing")


def portions(
    things: Iterable[Thing], size: Callable[[Thing], int], most: int
) -> Iterator[list[Thing]]:
    """In order; a portion is given out as soon as its sizes add up to `most`."""
    portion: list[Thing] = []
    held = 0
    for thing in things:
        portion.append(thing)
        held += size(thing)
        if held >= most:
            yield portion
            portion, held = [], 0
    if portion:
        yield portion
