"""How the bytes of a tensor are told from what the file holds: one function for each form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .container import DecodeError
from .parts import Parts
from .prediction import coefficients, restored, restored_integers

Entry = Mapping[str, Any]
Form = Callable[[Entry, Parts, int], bytes]
Values = NDArray[np.floating[Any]]
MOST_STEPS = 1 << 16


def plain(entry: Entry, parts: Parts, most: int) -> bytes:
    """Small tensors: first the lowest byte of every element, then the next one of every element."""
    count, item = _checked(int(entry["bytes"]), most), int(entry["item"])
    if item < 1 or count % item:
        raise DecodeError(f"a tensor of {count} bytes has elements of {item}")
    return np.frombuffer(parts.pooled(count), np.uint8).reshape(item, -1).T.tobytes()


def planes(entry: Entry, parts: Parts, most: int) -> bytes:
    """Exact: each byte of the elements as an array ("a", from `centre` on) or as it is ("v").
    With `foretold` the arrays are what is left of each place of a kernel.
    """
    marks, count, centre = entry["planes"], int(entry["count"]), int(entry.get("centre", 0))
    _checked(count * len(marks), most)
    found = np.empty((count, len(marks)), np.uint8)
    for i, mark in enumerate(marks):
        if mark == "a":
            found[:, i] = (_sized(_array(entry, parts), count) + centre).astype(np.uint8)
        else:
            found[:, i] = np.frombuffer(parts.verbatim(count), np.uint8)
    return found.tobytes()


def packed(entry: Entry, parts: Parts, most: int) -> bytes:
    """Exact: elements of 4 or 2 bits that share bytes, the first one its lowest bits."""
    bits, count = int(entry["bits"]), int(entry["count"])
    _checked(count * bits // 8, most)
    if bits not in (2, 4):
        raise DecodeError(f"a tensor declares elements of {bits} bits")
    values = _sized(_array(entry, parts), count).reshape(-1, 8 // bits) & ((1 << bits) - 1)
    joined: NDArray[np.int64] = (values << np.arange(0, 8, bits)).sum(1)
    return bytes(joined.astype(np.uint8))


def words(entry: Entry, parts: Parts, most: int) -> bytes:
    """Exact: numbers from `centre` on below `levels`, as many as fit into a word of `item` bytes,
    the first one its most significant digit; the last word may hold fewer.
    """
    levels, each, item = (int(entry[name]) for name in ("levels", "each", "item"))
    if item not in (1, 2) or levels < 2 or not 1 <= each <= 8 * item or levels**each > 256**item:
        raise DecodeError(f"{each} numbers below {levels} do not fit into {item} bytes")
    numbers = _array(entry, parts).reshape(-1).astype(np.int64) + int(entry["centre"])
    count = -(-numbers.size // each)
    _checked(count * item, most)
    if not 0 <= numbers.min() <= numbers.max() < levels:
        raise DecodeError(f"a word holds a number that is not below {levels}")
    digits = np.zeros(count * each, np.int64)
    digits[: numbers.size] = numbers
    found: NDArray[np.int64] = digits.reshape(count, each) @ levels ** np.arange(each)[::-1]
    return found.astype(f"<u{item}").tobytes()


def palette(entry: Entry, parts: Parts, most: int) -> bytes:
    """Exact: elements of few values, by their rank above that of the `centre`."""
    count, item = int(entry["colours"]), int(entry["item"])
    ranks = parts.array().reshape(-1)
    _checked(max(ranks.size, count) * item, most)
    colours = np.frombuffer(parts.pooled(count * item), np.dtype((np.void, item)))
    return bytes(colours[_ranked(ranks, int(entry["centre"]), count)])


def sparse(entry: Entry, parts: Parts, most: int) -> bytes:
    """Exact: where something is, and `planes` of what is there."""
    there, item = parts.array().reshape(-1) != 0, len(entry["planes"])
    _checked(there.size * item, most)
    if np.count_nonzero(there) != int(entry["count"]):
        raise DecodeError("a sparse tensor has more or fewer elements than places")
    found = np.zeros((there.size, item), np.uint8)
    found[there] = np.frombuffer(planes(entry, parts, most), np.uint8).reshape(-1, item)
    return found.tobytes()


def trellis(entry: Entry, parts: Parts, most: int) -> bytes:
    """On two grids of one step, each with shifts of its own; rows, columns or places come last.
    With `foretold` these are what is left of each place of a kernel.
    """
    values = points(parts.chained(), entry["step"], entry["shifts"])
    whole = np.moveaxis(values, -1, int(entry["axis"]))
    if "foretold" in entry:
        whole = restored(whole, coefficients(entry["foretold"]))
    return stored(entry, whole, parts, most)


@dataclass(frozen=True, slots=True)
class Steps:
    """How integers stand for weights: scale (q - zero), with a scale for each index of an axis."""

    scale: NDArray[np.float32]
    axis: int
    zero: int


def refined(entry: Entry, parts: Parts, most: int) -> bytes:
    """As far as it has been refined: whole numbers of a unit, in single precision."""
    rows, columns, places = (_checked(int(n), most) for n in entry["shape"])
    found = parts.refined(_checked(rows * columns * places, most)).astype(np.float32)
    with np.errstate(all="ignore"):
        found *= np.float32(float(entry["unit"]))
    return stored(entry, found.reshape(rows, columns, places), parts, most)


def codebook(entry: Entry, parts: Parts, most: int) -> bytes:
    """Shared values: elements by their index among `values`, which are in single precision."""
    index, count = parts.shared(), int(entry["values"])
    _checked(max(index.size, count), most)
    values = np.frombuffer(parts.pooled(4 * count), "<f4")
    if int(index.max()) >= count:
        raise DecodeError("a tensor has an index that no shared value belongs to")
    return stored(entry, values[index], parts, most)


def stored(entry: Entry, values: Values, parts: Parts, most: int) -> bytes:
    """Weights (rows x columns x places) as the model holds them."""
    _checked(values.size * np.dtype(_KINDS[entry["dtype"]]).itemsize, most)
    steps = None
    if "scale" in entry:
        scale = np.frombuffer(parts.tensor(int(entry["scale"])), "<f4")
        steps = Steps(scale, int(entry["axis"]), int(entry["zero"]))
    return as_stored(values, entry["dtype"], steps).tobytes()


def as_stored(values: Values, dtype: str, steps: Steps | None) -> NDArray[Any]:
    """Floats as they are; integers as what is nearest to weight / scale + zero point."""
    kind = np.dtype(_KINDS[dtype])
    with np.errstate(all="ignore"):
        if steps is None:
            return values.astype(kind)
        shape = [1, 1, 1]
        shape[steps.axis] = steps.scale.size
        scale = steps.scale.astype(np.float64).reshape(shape)
        found = np.nan_to_num(np.rint(values.astype(np.float64) / scale)) + steps.zero
    limits = np.iinfo(kind)
    clipped: NDArray[Any] = np.clip(found, limits.min, limits.max)
    return clipped.astype(kind)


def points(
    found: NDArray[np.int32], step: float, shifts: Sequence[Sequence[float]]
) -> NDArray[np.float32]:
    """Where numbers on two grids lie, given as 2 k + grid: sign(k) (|k| step - shift), in single
    precision, one operation after the other. Each grid has a shift for |k| = 1 and one for others.
    """
    most = max(int(found.max(initial=0)) >> 1, -(int(found.min(initial=0)) >> 1))
    if most > MOST_STEPS:
        raise DecodeError(f"a weight is {most} steps from zero")
    with np.errstate(all="ignore"):
        first, others = np.array(shifts, np.float32).T
        sizes = np.arange(most + 1).astype(np.float32)[:, None] * np.full(2, step, np.float32)
        sizes[1:2] -= first
        sizes[2:] -= others
    table = np.concatenate([sizes, -sizes[:0:-1]]).reshape(-1)  # a negative k counts from the end
    values: NDArray[np.float32] = table[found]
    return values


def _ranked(ranks: NDArray[np.int32], centre: int, count: int) -> NDArray[np.int64]:
    found = ranks.astype(np.int64) + centre
    if found.size and not 0 <= found.min() <= found.max() < count:
        raise DecodeError("a tensor has a value that is not in its palette")
    return found


def _checked(count: int, most: int) -> int:
    if not 0 <= count <= most:
        raise DecodeError(f"a tensor of {count} bytes is larger than what is left of the model")
    return count


def _array(entry: Entry, parts: Parts) -> NDArray[np.int32]:
    """The next array of integers, or what it leaves of each place of a kernel."""
    array = parts.array()
    if "foretold" not in entry:
        return array
    return restored_integers(array, coefficients(entry["foretold"]))


def _sized(array: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    if array.size != count:
        raise DecodeError(f"a tensor of {count} elements has {array.size} weights")
    return array.reshape(-1)


_KINDS = {"float32": "<f4", "float16": "<f2", "float64": "<f8", "int8": "<i1", "uint8": "<u1"}
FORMS: dict[str, Form] = {
    "plain": plain,
    "planes": planes,
    "packed": packed,
    "words": words,
    "palette": palette,
    "sparse": sparse,
    "trellis": trellis,
    "refined": refined,
    "codebook": codebook,
}
