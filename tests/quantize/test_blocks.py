"""Weights in blocks: how well they round, and that they hold what they stand for."""

import numpy as np
import pytest
import torch

from hwprune.precision import blockwise
from hwprune.quantize.blocks import Blocks, quantize_blocks
from hwprune.quantize.noise import sqnr_db


def rounded(matrix: np.ndarray, name: str) -> Blocks:
    kind = blockwise(name)
    assert kind is not None
    return quantize_blocks(matrix, kind)


def normal(outputs: int, inner: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(outputs, inner)).astype(np.float32)


# Of a normal variable, per block: 6 dB a bit, less what an outlier of the block costs.
@pytest.mark.parametrize(
    ("name", "least_db"),
    [("nbits-2/128", 8.0), ("nbits-4/128", 19.5), ("nbits-4/32", 21.0), ("nbits-8/128", 44.0)],
)
def test_signal_to_noise(name, least_db):
    matrix = normal(64, 512)
    found = rounded(matrix, name).dequantize()
    assert sqnr_db(torch.from_numpy(matrix), torch.from_numpy(found)) > least_db


@pytest.mark.parametrize("name", ["nbits-2/32", "nbits-4/32", "nbits-8/256"])
def test_values_on_steps_are_held_exactly(name):
    bits = int(name[6])
    grid = 0.1 * (np.arange(2**bits) - 2 ** (bits - 1)).astype(np.float32)
    matrix = np.resize(grid, (3, 512))
    np.testing.assert_allclose(rounded(matrix, name).dequantize(), matrix, rtol=1e-6, atol=1e-6)


def test_a_part_of_a_block_is_filled_up_with_what_stands_for_zero():
    found = rounded(normal(5, 200) + 1, "nbits-4/128")
    assert found.integers.shape == (5, 2, 128)
    assert found.dequantize().shape == (5, 200)
    np.testing.assert_array_equal(
        found.integers[:, 1, 72:], found.zero_point[:, 1, None].repeat(56, 1)
    )


def test_zero_stays_zero():
    matrix = normal(4, 64)
    matrix[:, ::3] = 0
    assert not rounded(matrix, "nbits-2/32").dequantize()[:, ::3].any()
    assert not rounded(np.zeros((2, 64), np.float32), "nbits-4/32").dequantize().any()
