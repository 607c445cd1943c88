"""What has no torch twin is named."""

import onnx_graphsurgeon as gs
import pytest

from hwprune.errors import UnsupportedModelError
from hwprune.network.operators import translate


def test_unknown_operator_is_named():
    with pytest.raises(UnsupportedModelError, match=r"'count' \(NonZero\)"):
        translate(gs.Node(op="NonZero", name="count"))
