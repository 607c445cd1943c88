"""The twin against the node tests of ONNX itself: what is in its table must be right."""

import re
from pathlib import Path

import pytest

from hwprune.graph.fold import INLINED
from hwprune.network.operators import supported_ops
from hwprune.testing.node_suite import ask, in_scope

DOCS = Path(__file__).resolve().parents[2] / "docs" / "operators.md"

# What may be refused, by what the message says; anything else in scope must pass.
REFUSED = (
    "has a dynamic shape",  # these tests have an axis of length 0
    "the model uses opset [1-8]$",
    # a Constant as the whole network; an Attention that onnx cannot inline
    "this operator has no torch twin",
    "depends on the data",  # a shape that is itself an input
    "is not constant$",
    "the reduction '(mul|max|min)' is not supported",
)


@pytest.mark.parametrize("op", sorted(supported_ops().union(INLINED)))
def test_node_tests_of(op):
    wrong, refused = {}, {}
    for case in in_scope(op):
        outcome = ask(case)
        if outcome.wrong:
            wrong[outcome.name] = outcome.wrong
        elif outcome.refused and not _expected(outcome.refused):
            refused[outcome.name] = outcome.refused
    assert not wrong
    assert not refused


def _expected(message):
    return any(re.search(pattern, message) for pattern in REFUSED)


def test_the_table_of_operators_is_the_one_in_the_code():
    listed = re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE)
    assert listed == sorted(supported_ops().union(INLINED)), "run: python tools/operators.py"
