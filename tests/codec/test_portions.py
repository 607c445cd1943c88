"""Portions keep the order, and are no larger than they must be."""

from hypothesis import given
from hypothesis import strategies as st

from hwprune.codec.portions import portions


@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_portions(sizes, most):
    found = list(portions(sizes, lambda size: size, most))
    assert [size for portion in found for size in portion] == sizes
    assert all(sum(portion) >= most for portion in found[:-1])
    assert all(sum(portion[:-1]) < most for portion in found)
    assert all(found)


def test_a_portion_is_given_out_before_more_is_asked_for():
    asked = []

    def things():
        for i in range(6):
            asked.append(i)
            yield i

    given_out = portions(things(), lambda _: 1, 2)
    assert (next(given_out), asked) == ([0, 1], [0, 1])
