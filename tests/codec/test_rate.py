"""Dials whose sizes and losses are known."""

import numpy as np
import pytest

from hwprune.codec.rate import Packed, coarsest_within, finest_within

RESOLUTION = 2.0**-8
CURVES = {  # bytes of a file by coarseness
    "line": lambda c: 10_000 * (1 - c) + 100,
    "fall": lambda c: 20_000 * 2 ** (-9 * c),
    "stairs": lambda c: 500 * (20 - int(20 * c)) + 7,
    "cliff": lambda c: 9000 if c < 0.7 else 200 - 100 * c,
}


class Dial:
    """Size falls with coarseness."""

    def __init__(self, curve="line"):
        self.asked, self.size = [], CURVES[curve]

    def at(self, coarseness):
        self.asked.append(coarseness)
        return self.file(coarseness)

    def file(self, coarseness):
        return Packed(bytes(round(self.size(coarseness))), 10_000)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("rate", [0.17, 0.4, 2.7, 7.2, 8.07])
def test_the_finest_file_that_is_small_enough(rate, curve):
    dial = Dial(curve)
    found, fits = finest_within(dial, rate)
    assert fits
    assert found.rate <= rate
    if found.rate < 0.995 * rate:
        kept = max(c for c in dial.asked if dial.file(c) == found)
        finer = dial.file(max(kept - RESOLUTION, 0))
        assert finer == found or finer.rate > rate
    assert len(dial.asked) <= 16


def test_few_files_are_tried_where_rates_are_in_a_line_or_fall():
    tried = []
    for curve in ("line", "fall"):
        for rate in np.geomspace(0.2, 7, 12):
            dial = Dial(curve)
            finest_within(dial, rate)
            tried.append(len(dial.asked))
    assert np.mean(tried) < 4.5


@pytest.mark.parametrize("bound", [0.0, 0.01, 0.4, 0.99])
def test_the_coarsest_file_that_is_good_enough(bound):
    dial = Dial()
    found, fits = coarsest_within(dial, lambda _: dial.asked[-1] <= bound)
    assert fits
    assert len(dial.asked) <= 9
    kept = next(c for c in dial.asked if dial.file(c) == found)
    assert bound - RESOLUTION <= kept <= bound


def test_all_files_fit():
    dial = Dial()
    assert finest_within(dial, 100) == (dial.file(0), True)
    found, fits = coarsest_within(dial, lambda _: True)
    assert fits
    assert found.rate <= dial.file(1 - RESOLUTION).rate


def test_no_file_fits():
    dial = Dial()
    assert finest_within(dial, 0.05) == (dial.file(1), False)
    assert coarsest_within(dial, lambda _: False) == (dial.file(0), False)


def test_rate_is_bits_of_the_file_for_each_number():
    assert Packed(bytes(100), 200).rate == 4
    assert Packed(bytes(100), 0).rate == 800
