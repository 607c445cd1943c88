"""Bisection on dials whose size and loss are known."""

import pytest

from hwprune.codec.rate import Packed, coarsest_within, finest_within

SIZE, RESOLUTION = 10_000, 2.0**-9


class Dial:
    """Size falls, and what is lost grows, in proportion to coarseness."""

    def __init__(self):
        self.asked = []

    def at(self, coarseness):
        self.asked.append(coarseness)
        return Packed(bytes(round(SIZE * (1 - coarseness) + 100)), 1000)

    @staticmethod
    def coarseness(found):
        """Of a file of this dial."""
        return 1 - (len(found.file) - 100) / SIZE


@pytest.mark.parametrize("bound", [101, 500, 3333, 9000, 10_099])
def test_the_finest_file_that_is_small_enough(bound):
    dial = Dial()
    found, fits = finest_within(dial, lambda p: len(p.file) <= bound)
    assert fits
    assert len(found.file) <= bound
    assert Dial.coarseness(found) - (1 - (bound - 100) / SIZE) <= RESOLUTION + 1e-4
    assert len(dial.asked) <= 10


@pytest.mark.parametrize("bound", [0.0, 0.01, 0.4, 0.99])
def test_the_coarsest_file_that_is_good_enough(bound):
    found, fits = coarsest_within(Dial(), lambda p: Dial.coarseness(p) <= bound)
    assert fits
    assert bound - RESOLUTION - 1e-4 <= Dial.coarseness(found) <= bound


def test_all_files_fit():
    assert Dial.coarseness(finest_within(Dial(), lambda _: True)[0]) <= RESOLUTION + 1e-4
    assert Dial.coarseness(coarsest_within(Dial(), lambda _: True)[0]) >= 1 - RESOLUTION - 1e-4


def test_no_file_fits():
    dial = Dial()
    found, fits = finest_within(dial, lambda _: False)
    assert (Dial.coarseness(found), fits, dial.asked) == (1.0, False, [1.0])
    found, fits = coarsest_within(dial, lambda _: False)
    assert (Dial.coarseness(found), fits) == (0.0, False)


def test_rate_is_bits_of_the_file_for_each_number():
    assert Packed(bytes(100), 200).rate == 4
    assert Packed(bytes(100), 0).rate == 800
