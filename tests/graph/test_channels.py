"""What the values of the coupling analysis say of themselves."""

import numpy as np

from hwprune.graph.channels import Member


def test_whose_the_indices_along_an_axis_are() -> None:
    """Two channels, each flattened into two columns, among others."""
    member = Member("weight", 1, np.array([[4, 5], [1, 2]]))
    assert member.channels(7).tolist() == [2, 1, 1, 2, 0, 0, 2]
