"""How noisy: from raw times to figures, and from figures to a word."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count

import pytest
from hwprune.backends.cpu import CpuBackend
from hwprune.backends.null import NullBackend

from hwprune.backend import Samples
from hwprune.doctor.noise import Noise, measure_noise, summarise


def samples(*runs: list[int], share: float = 1.0) -> Samples:
    return Samples(tuple(map(tuple, runs)), (share,) * len(runs))


def test_figures_of_times_that_are_known() -> None:
    one, other = samples([100] * 100, [110] * 100), samples([104] * 100, [110] * 100, share=0.9)
    found = summarise(one, other)
    assert found.runs == 400
    assert (found.p20_ns, found.p99) == (100, 1.1)
    assert found.spread == pytest.approx(10 / 105)
    assert found.twins == pytest.approx(0.04)
    assert found.cpu_share == 0.9
    assert found.drift == 0


def test_drift_is_seen_within_a_process() -> None:
    slowing = samples([100] * 50 + [120] * 50)
    assert summarise(slowing, slowing).drift == pytest.approx(0.2)


def test_a_single_run_is_enough_for_figures() -> None:
    assert summarise(samples([100]), samples([100])).drift == 0


@pytest.mark.parametrize(
    ("figures", "level"),
    [
        ({}, "steady"),
        ({"spread": 0.05}, "unsteady"),
        ({"twins": 0.05}, "unsteady"),
        ({"cpu_share": 0.93}, "unsteady"),
        ({"spread": 0.11}, "noisy"),
        ({"twins": 0.11}, "noisy"),
        ({"cpu_share": 0.89}, "noisy"),
        ({"throttled": 1.0}, "noisy"),
        ({"p99": 9.0}, "steady"),  # a tail moves no median
    ],
)
def test_levels(figures: dict[str, float], level: str, steady: Noise) -> None:
    assert replace(steady, **figures).level == level


def test_rules_are_steady_and_noise_is_found_where_there_is_some() -> None:
    quiet = measure_noise(NullBackend(), threads=1)
    assert (quiet.level, quiet.resolution, quiet.p99) == ("steady", 0, 1)
    restless = measure_noise(NullBackend(noise=0.5), threads=1)
    assert restless.p99 > 1.5
    assert measure_noise(NullBackend(drift=5), threads=1).level == "noisy"


@pytest.mark.ort
def test_a_real_machine_has_figures() -> None:
    found = measure_noise(CpuBackend(), threads=1)
    assert found.runs >= 30
    assert found.p20_ns > 0
    assert 1 <= found.p50 <= found.p90 <= found.p99
    assert 0 < found.cpu_share <= 1.1
    assert min(found.spread, found.twins) >= 0


def test_what_the_machine_counted_in_the_meantime() -> None:
    class Hot(NullBackend):
        looks = count()

        def conditions(self) -> Mapping[str, str]:
            return {"throttled": str(3 * next(self.looks)), "stolen_s": "unknown"}

    found = measure_noise(Hot(), threads=1)
    assert (found.throttled, found.stolen_s, found.level) == (3.0, None, "noisy")
