"""What a file may ask of its decoder: no more than a model of the declared size is worth."""

from typing import Any

from .container import MOST_DOCUMENT, DecodeError, parsed, unfold

_PARSED = 2  # bytes of a description for one unit of work


class Budget:
    """Bits and bytes that a file may still unfold into, and work that it may still ask for.

    A few bytes can declare thousands of arrays, tables or steps. What each of them takes is
    counted, so that time and memory are in proportion to the model, whatever a file says.
    """

    def __init__(self, model_bytes: int) -> None:
        self._bits, self._bytes = 8 * model_bytes, 4 * model_bytes
        self._work = (1 << 20) + model_bytes // 4  # about microseconds, besides those of elements

    def take(self, bits: int) -> None:
        """Of elements, the least that they stand for; raises DecodeError where there is no room."""
        self._bits -= bits
        if self._bits < 0:
            raise DecodeError("the file declares more weights than its model has room for")

    def spend(self, work: int) -> None:
        """About so many microseconds; raises DecodeError where there are not so many left."""
        self._work -= work
        if self._work < 0:
            raise DecodeError("the file asks for more work than a model of its size needs")

    def unfold(self, packed: memoryview) -> bytes:
        """A compressed part, if there is room for it."""
        found = unfold(packed, self._bytes)
        self._bytes -= len(found)
        return found

    def document(self, packed: memoryview) -> dict[str, Any]:
        """A JSON object that was folded, if there is time for it."""
        text = unfold(packed, MOST_DOCUMENT)
        self.spend(len(text) // _PARSED)
        return parsed(text)
