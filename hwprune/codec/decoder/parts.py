"""What the sections of a file hold, handed out in the order in which it is asked for."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from .arrays import decode_arrays
from .budget import Budget
from .container import DecodeError
from .refinement import Refinement


class Parts:
    """Literals between tensors, bytes and arrays for them.

    `progressive` says that the tensors can be told from what there is, however little; `share` how
    much of what was packed that is; `budget` is what their readers may take.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget(0)
        self.progressive, self.share = False, 1.0
        self._literals, self._pool, self._verbatim = _Bytes(), _Bytes(), _Bytes()
        self._sections: deque[memoryview] = deque()  # of arrays that were not asked for yet
        self._arrays: deque[NDArray[np.int32]] = deque()
        self._chained: deque[NDArray[np.int32]] = deque()
        self._refinement: Refinement | None = None
        self._shared: deque[NDArray[np.uint16]] = deque()
        self.tensors: dict[int, bytes] = {}

    def add_literals(self, data: bytes) -> None:
        """More of what stands between the tensors."""
        self._literals.add(data)

    def add_pool(self, data: bytes) -> None:
        """More bytes of small tensors."""
        self._pool.add(data)

    def add_verbatim(self, data: memoryview) -> None:
        """More bytes that are not coded."""
        self._verbatim.add(data)

    def add_arrays(self, content: memoryview) -> None:
        """More arrays of integers, decoded when they are asked for: so few are there at a time."""
        self._sections.append(content)

    def add_refinement(self, content: memoryview, most: int) -> None:
        """The head of the weights' refinement, and then chunk after chunk."""
        if self._refinement is None:
            self._refinement = Refinement(content, most)
            return
        self._refinement.add(content)
        self.progressive, self.share = True, self._refinement.share

    def add_shared(self, arrays: list[NDArray[np.uint16]]) -> None:
        """More arrays of indices into shared values."""
        self._shared.extend(arrays)

    def add_chained(self, arrays: list[NDArray[np.int32]]) -> None:
        """More arrays of numbers on two grids."""
        self._chained.extend(arrays)

    def literal(self, count: int) -> bytes:
        """The next bytes of the model that are of no tensor."""
        return self._literals.take(count)

    def pooled(self, count: int) -> bytes:
        """The next bytes of small tensors."""
        return self._pool.take(count)

    def verbatim(self, count: int) -> bytes:
        """The next bytes that are not coded."""
        return self._verbatim.take(count)

    def tensor(self, index: int) -> bytes:
        """The bytes of a tensor that depends on no other."""
        if index not in self.tensors:
            raise DecodeError("a tensor depends on one that is not there")
        return self.tensors[index]

    def array(self) -> NDArray[np.int32]:
        """The next array of integers, rows x columns x places."""
        while not self._arrays and self._sections:
            self._arrays.extend(decode_arrays(self._sections.popleft(), self.budget))
        if not self._arrays:
            raise DecodeError("a tensor has no weights in this file")
        return self._arrays.popleft()

    def chained(self) -> NDArray[np.int32]:
        """The next array of numbers on two grids, as 2 k + grid."""
        if not self._chained:
            raise DecodeError("a tensor has no weights in this file")
        return self._chained.popleft()

    def refined(self, count: int) -> NDArray[np.int32]:
        """The next weights that are refined chunk by chunk."""
        if self._refinement is None:
            raise DecodeError("a tensor has no weights in this file")
        return self._refinement.take(count)

    def shared(self) -> NDArray[np.uint16]:
        """The next array of indices into shared values, rows x columns x places."""
        if not self._shared:
            raise DecodeError("a tensor has no indices in this file")
        return self._shared.popleft()


class _Bytes:
    """A stream of bytes, kept in the pieces in which it came."""

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()

    def add(self, data: bytes | memoryview) -> None:
        if len(data):
            self._pieces.append(memoryview(data))

    def take(self, count: int) -> bytes:
        if count < 0:
            raise DecodeError("a tensor declares fewer bytes than none")
        found = []
        while count > 0:
            if not self._pieces:
                raise DecodeError("the file holds fewer bytes than its tensors need")
            piece = self._pieces.popleft()
            found.append(piece[:count])
            if len(piece) > count:
                self._pieces.appendleft(piece[count:])
            count -= len(found[-1])
        return b"".join(found)
