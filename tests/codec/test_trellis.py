"""Arrays on two grids: sections of them, and damage to these."""

import numpy as np
import pytest

from hwprune.codec.arrays import Symbols, encode_arrays
from hwprune.codec.container import fold_document
from hwprune.codec.decoder.arrays import MOST_LANE
from hwprune.codec.decoder.budget import Budget
from hwprune.codec.decoder.container import DecodeError, document
from hwprune.codec.decoder.trellis import decode_trellis
from hwprune.codec.trellis import Chained, encode_trellis


def _room() -> Budget:
    return Budget(1 << 22)


def _grids(numbers: np.ndarray, line: int, run: int) -> np.ndarray:
    """By the rule in the decoder's words, one element after the other."""
    found = np.zeros(numbers.size, np.int32)
    for i, k in enumerate(numbers.reshape(-1)):
        place = i % line % run
        if place == 0:
            before = two_before = grid = 0
        found[i] = grid
        before, two_before, grid = grid, before, (int(k) + before + two_before) % 2
    return found.reshape(numbers.shape)


def _chained(seed: int, shape: tuple[int, ...], line: int, run: int, scale: float = 1.0) -> Chained:
    rng = np.random.default_rng(seed)
    loud = np.exp(rng.normal(size=(shape[0], 1, 1)))
    numbers = np.rint(rng.laplace(size=shape) * loud * scale).astype(np.int32)
    return Chained(2 * numbers + _grids(numbers, line, run), line, run)


def _decoded(arrays: list[Chained]) -> list[np.ndarray]:
    return decode_trellis(memoryview(encode_trellis(arrays)), _room())


MANY = [
    _chained(0, (40, 30, 9), 30 * 9 * 40, 1024),
    _chained(1, (30, 9, 40), 40, 40),
    _chained(2, (7, 1, 300), 300, 100),
    _chained(3, (12, 1, 100), 100, 33),
    _chained(4, (1, 1, 1), 1, 1),
    _chained(5, (3, 5, 1), 2, 2),
    _chained(6, (2, 3, 5000), 5000, 64),
]


@pytest.mark.parametrize("count", range(1, len(MANY) + 1))
def test_arrays_come_back_with_their_grids(count):
    found = _decoded(MANY[:count])
    assert all((a == b.values).all() for a, b in zip(found, MANY, strict=False))
    assert [a.shape for a in found] == [b.values.shape for b in MANY[:count]]


def test_numbers_far_from_all_others_come_back():
    one = _chained(7, (40, 1, 200), 200, 100)
    numbers = one.values >> 1
    numbers[3, 0, 5], numbers[20, 0, 77], numbers[39, 0, 199] = 5001, -32768, 7000
    array = Chained(2 * numbers + _grids(numbers, 200, 100), 200, 100)
    content = encode_trellis([array])
    assert (decode_trellis(memoryview(content), _room())[0] == array.values).all()
    assert len(content) < len(encode_trellis([one])) + 60


@pytest.mark.parametrize("scale", [0.0, 0.01, 300.0])
def test_all_zeros_and_very_fine_steps_come_back(scale):
    one = _chained(8, (50, 1, 80), 4000, 1024, scale)
    assert (_decoded([one])[0] == one.values).all()


def test_numbers_take_about_their_entropy():
    """Of numbers that do not depend on their grid, both tables are alike: as a scalar's."""
    numbers = np.rint(np.random.default_rng(9).laplace(size=(400, 1, 500)) * 1.5).astype(np.int32)
    counts = np.bincount((numbers - numbers.min()).reshape(-1))
    shares = counts[counts > 0] / numbers.size
    entropy = -(shares * np.log2(shares)).sum()
    array = Chained(2 * numbers + _grids(numbers, numbers.size, 1024), numbers.size, 1024)
    bits = 8 * len(encode_trellis([array])) / numbers.size
    assert entropy < bits < 1.01 * entropy
    assert bits < 8 * len(encode_arrays([Symbols(numbers, "alike")])) / numbers.size + 0.01


def test_sections_hold_no_more_than_they_may():
    content = memoryview(encode_trellis(MANY[:2]))
    total = MANY[0].values.size + MANY[1].values.size
    assert len(decode_trellis(content, Budget(total // 4))) == 2
    with pytest.raises(DecodeError, match="more weights"):
        decode_trellis(content, Budget(total // 4 - 1))


def _rewritten(content: bytes, change) -> memoryview:
    length = int.from_bytes(content[:4], "little")
    meta = document(content[4 : 4 + length])
    change(meta)
    head = fold_document(meta)
    return memoryview(len(head).to_bytes(4, "little") + head + content[4 + length :])


CONTENT = encode_trellis([*MANY[:3], _chained(10, (40, 1, 200), 200, 100, 200.0)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["arrays"][0].update(run=0), "runs of 0"),
        (lambda m: m["arrays"][0].update(run=1 << 20), "runs of"),
        (lambda m: m["arrays"][1].update(line=1 << 40), "lines of"),
        (lambda m: m["arrays"][0].update(run=MOST_LANE + 1), "runs of"),
        (lambda m: m["arrays"][1].update(run=20), "left behind"),
        (lambda m: m["tables"].pop(), "do not suit"),
        (lambda m: m["tables"][0].update(lowest=m["tables"][0]["lowest"] + 1), "do not suit"),
        (lambda m: m["tables"][0].update(escape=1), "do not suit"),
        (lambda m: m["tables"][1].update(levels="0"), "do not suit"),
        (lambda m: m["words"].pop(), "more or fewer lanes"),
        (lambda m: m["words"].__setitem__(0, -1), "more or fewer lanes"),
        (lambda m: m.update(away=[[5], [1 << 40]]), "very many steps"),
        (lambda m: m.update(away=[[-5], [1]]), "very many steps"),
        (lambda m: m.update(arrays=[]), "no arrays"),
    ],
)
def test_odd_descriptions_are_refused(change, words):
    with pytest.raises(DecodeError, match=words):
        decode_trellis(_rewritten(CONTENT, change), _room())
