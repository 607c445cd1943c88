import numpy as np
import pytest

from hwprune.quantize.encodings import Encoding


def weight_encoding(bits: int = 8) -> Encoding:
    scale = np.array([0.5, 0.25], np.float32)
    return Encoding(scale, np.zeros(2, np.int64), 0, bits, signed=True)


@pytest.mark.parametrize(("bits", "highest"), [(8, 127), (7, 63), (4, 7)])
def test_signed_range_is_narrow(bits: int, highest: int) -> None:
    encoding = weight_encoding(bits)
    assert (encoding.lowest, encoding.highest) == (-highest, highest)


def test_unsigned_range() -> None:
    encoding = Encoding(np.asarray(np.float32(1)), np.asarray(3))
    assert (encoding.lowest, encoding.highest) == (0, 255)


def test_rounds_half_to_even_and_saturates() -> None:
    encoding = Encoding(np.asarray(np.float32(1)), np.asarray(10))
    values = np.array([0.5, 1.5, -10.4, -99, 999], np.float32)
    assert encoding.quantize(values).tolist() == [10, 12, 0, 0, 255]


def test_integers_survive_the_round_trip() -> None:
    integers = np.array([[-127, 5], [127, 0]], np.int8)
    encoding = weight_encoding()
    np.testing.assert_array_equal(encoding.quantize(encoding.dequantize(integers)), integers)


def test_scales_run_along_the_axis() -> None:
    encoding = Encoding(np.array([1, 2], np.float32), np.zeros(2, np.int64), 1, 8, signed=True)
    np.testing.assert_array_equal(encoding.quantize(np.full((3, 2), 4.0, np.float32)), [[4, 2]] * 3)


@pytest.mark.parametrize(
    ("bits", "levels"), [(1, [-1, 1]), (2, [-1, 0, 1]), (3, [-3, -2, -1, 0, 1, 2, 3])]
)
def test_levels_of_few_bits(bits: int, levels: list[int]) -> None:
    assert weight_encoding(bits).levels.tolist() == levels


def test_one_bit_is_the_sign_and_zero_counts_as_positive() -> None:
    values = np.array([[-9, -0.01, -0.0], [0, 0.01, 9]], np.float32)
    encoding = weight_encoding(bits=1)
    assert encoding.quantize(values).tolist() == [[-1, -1, 1], [1, 1, 1]]
    restored = encoding.dequantize(encoding.quantize(values))
    np.testing.assert_array_equal(restored, [[-0.5, -0.5, 0.5], [0.25, 0.25, 0.25]])


def test_codebook_takes_the_nearest_level() -> None:
    codebook = np.array([-20, -3, 0, 90], np.int8)
    scale = np.asarray(np.float32(0.5))
    encoding = Encoding(scale, np.asarray(0), None, 2, signed=True, codebook=codebook)
    values = np.linspace(-30, 60, 181, dtype=np.float32)
    nearest = codebook[np.abs(values[:, None] / 0.5 - codebook[::-1]).argmin(1) * -1 - 1]
    np.testing.assert_array_equal(encoding.quantize(values), nearest)
    assert (encoding.lowest, encoding.highest) == (-20, 90)
