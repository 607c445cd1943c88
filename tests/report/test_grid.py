"""What a table of steps says in words."""

import pytest

from hwprune.report.grid import ClassSteps, Grid

CONV = ("Conv", "int8", "", "dense", "out")
LEAPING = (0.0, *[31.0] * 16, *[38.0] * 16, *[50.0] * 16, *[64.0] * 15)


@pytest.mark.parametrize(
    ("steps", "grain", "meaning"),
    [(ClassSteps(*CONV, 1, (0.0,), 1, 1.0, 1), 1, "every count has its price"),
     (ClassSteps(*CONV, 4, (0.0, 9.0, 9.5, 9.0), 1, 1.0, 4), 4,
      "1 beyond a step cost as much as 9"),
     (ClassSteps(*CONV, 4, (0.0, 4.0, 4.0, 4.0), 4, 1.33, 4), 4,
      "off 4 the whole kernel takes about 1.33 times as long"),
     (ClassSteps(*CONV, 64, LEAPING, 1, 1.0, 16), 16, "1 beyond a step of 64 cost as much as 31"),
     (ClassSteps(*CONV, 64, LEAPING, 4, 1.28, 16, 16), 16,
      ("off 4 or below 16 the whole kernel takes about 1.28 times as long; "
      "1 beyond a step of 64 cost as much as 31"))],
)  # fmt: skip
def test_steps_are_said_in_words(steps, grain, meaning):
    assert (steps.grain, steps.meaning) == (grain, meaning)
    lines = list(Grid("cpu", "a device", "a runtime", 1, (steps,), 80, 80, 3.0).lines())
    assert str(grain) in lines[1].split()
    assert lines[1].endswith(meaning)
