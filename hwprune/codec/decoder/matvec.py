"""Products with a matrix that stays coded: its dense form is never made (arXiv 2108.12704)."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from .ans import Integers
from .container import DecodeError
from .huffman import Symbols
from .shared import Matrix, Shared

Values = NDArray[np.float64]
_STEPS = 32  # of every lane that are decoded before they are summed up


def matvec(section: Shared, number: int, centroids: NDArray[np.float32], x: Values) -> Values:
    """W x in double precision.

    A sparse matrix is its value of index 0 everywhere, and elements that differ from it: where that
    is zero, zeros cost nothing.

    Args:
        section: What `read_shared` gives.
        number: Which of its arrays: rows x columns x places, seen as rows x (columns x places).
        centroids: The values that its indices stand for.
        x: columns x places elements.

    Raises:
        DecodeError: The streams are damaged, or have indices that no value belongs to.
        ValueError: x has more or fewer elements than the matrix has columns.
    """
    matrix, values = section.matrices[number], centroids.astype(np.float64)
    if x.shape != (prod(matrix.shape[1:]),):
        raise ValueError(f"the matrix has {prod(matrix.shape[1:])} columns, x the shape {x.shape}")
    found = np.zeros(matrix.shape[0])
    if not matrix.reach:
        for places, symbols in section.streams.blocks(matrix.streams[0], _STEPS):
            found += _summed(matrix, places, symbols, values, x)
        return found
    gaps, indices = section.streams.decoded(matrix.streams)
    places = matrix.places(gaps, len(indices))
    found += values[0] * x.sum()
    return found + _summed(matrix, places, indices, values - values[0], x)


def _summed(
    matrix: Matrix, places: Integers, symbols: Symbols, values: Values, x: Values
) -> Values:
    """What elements at some places, counted column by column, add to each row."""
    if symbols.size and int(symbols.max()) >= len(values):
        raise DecodeError("an array has an index that no value belongs to")
    columns, rows = np.divmod(places, matrix.shape[0])
    found = np.bincount(rows, values[symbols] * x[columns], matrix.shape[0])
    return found.astype(np.float64)
