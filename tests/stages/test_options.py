"""Options no run could use are refused before anything is read."""

import pytest

from hwprune.errors import UsageError
from hwprune.stages.options import EFFORTS, CompileOptions
from hwprune.units import parse_budget

BUDGET = parse_budget("0.5x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"percentile": "p95"},
        {"threads": 0},
        {"batch": 0},
        {"evaluations": 0},
        {"epochs": -1},
        {"effort": "quik"},
    ],
    ids=lambda w: next(iter(w)),
)
def test_refused(wrong):
    with pytest.raises(UsageError) as caught:
        CompileOptions(BUDGET, **wrong).check()
    assert caught.value.hint


def test_defaults_are_fit():
    CompileOptions(BUDGET).check()


def test_epochs_override_the_effort():
    assert CompileOptions(BUDGET, effort="thorough").training_epochs == EFFORTS["thorough"].epochs
    assert CompileOptions(BUDGET, effort="thorough", epochs=0).training_epochs == 0
