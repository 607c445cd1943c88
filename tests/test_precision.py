"""Names of what a node may compute in."""

import pytest

from hwprune.precision import (
    DYNAMIC_INT8,
    FP32,
    INT8,
    Blockwise,
    bits_of,
    blockwise,
    bytes_per_weight,
    is_known,
    of_matrices,
)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("block", [16, 32, 128])
def test_a_name_says_bits_and_block(bits, block):
    kind = Blockwise(bits, block)
    assert blockwise(kind.name) == kind
    assert of_matrices(kind.name)
    assert bits_of(kind.name, of_integers=7) == bits
    assert kind.blocks(block * 3) == 3
    assert kind.blocks(block * 3 + 1) == 4


@pytest.mark.parametrize("name", ["nbits-3/32", "nbits-4/31", "nbits-4", "int4", "", "xnbits-4/32"])
def test_others_are_not_known(name):
    assert blockwise(name) is None
    assert not is_known(name)


def test_integers_have_the_bits_of_the_target():
    assert bits_of(FP32, 7) == 32
    assert bits_of(INT8, 7) == bits_of(DYNAMIC_INT8, 7) == 7
    assert not of_matrices(INT8)
    assert of_matrices(DYNAMIC_INT8)


def test_scales_count_among_the_bytes_of_a_weight():
    assert bytes_per_weight(FP32) == 4
    assert bytes_per_weight(INT8) == bytes_per_weight(DYNAMIC_INT8) == 1
    assert bytes_per_weight("nbits-4/32") == 0.5 + 4 / 32
