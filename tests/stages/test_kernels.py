"""The fastest kernels of a network that stays whole."""

from types import SimpleNamespace

import numpy as np
import pytest

from hwprune.plan import Configuration
from hwprune.search.problem import Factor
from hwprune.stages.kernels import fastest_kernels, seen_whole, time_only


@pytest.mark.parametrize(("times", "chosen"), [((90, 10, 50), "nbits-8/128"), ((40, 10, 50), None)])
def test_a_budget_that_is_met_already_never_costs_bits(times, chosen):
    """Weights of 2 bits are the fastest, and nobody has measured what they lose."""
    kernels = ("fp32", "nbits-2/128", "nbits-8/128")
    profile = SimpleNamespace(
        space=SimpleNamespace(sizes={"kernel:a": 3, "width:g": 2}, kernels={"a": kernels}),
        estimator=SimpleNamespace(
            factors=lambda _: [Factor(("kernel:a",), np.array(times, float))],
            latency_ns=lambda c, _: times[kernels.index(c.kernels["a"])],
        ),
        calibration=None,
        learn=lambda _: None,
        configuration=lambda a: Configuration(kernels={"a": kernels[a["kernel:a"]]}),
    )
    assert fastest_kernels(profile) == {"a": chosen or "fp32"}


NAMES = ("a", "b", "c")
KERNELS = ("fp32", "int8")


def exact_ns(kernels, width: int) -> float:
    """To the tables fp32 is faster in every layer; in truth it turns what lies behind `a` and `b`,
    and a channel less turns faster.
    """
    turned = 20.0 * ("fp32" in (kernels["a"], kernels["b"])) * width
    return turned + sum({"fp32": 9.0, "int8": 10.0}[kernels[n]] for n in NAMES) * width


@pytest.fixture
def profile():
    sizes = {**{f"kernel:{n}": 2 for n in NAMES}, "width:g": 2, "branch:r": 2}
    by_width = np.array([[9.0, 10.0], [18.0, 20.0]]).T
    tables = [Factor((f"kernel:{n}", "width:g"), by_width) for n in NAMES]
    gone = by_width[:, :, None] * np.array([0.0, 1.0])
    tables[2] = Factor(("kernel:c", "width:g", "branch:r"), gone)
    within = {n: frozenset({"r"} if n == "c" else ()) for n in NAMES}
    return SimpleNamespace(
        space=SimpleNamespace(sizes=sizes, kernels=dict.fromkeys(NAMES, KERNELS)),
        estimator=SimpleNamespace(
            network=SimpleNamespace(within=within),
            factors=lambda _: tables,
            latency_ns=lambda c, _: exact_ns(c.kernels, c.widths["g"]),
        ),
        calibration=None,
        configuration=lambda found: Configuration(
            widths={"g": 1 + found["width:g"]},
            kernels={n: KERNELS[found[f"kernel:{n}"]] for n in NAMES},
        ),
        learn=lambda _: None,
    )


def test_kernels_are_gone_over_with_whole_networks(profile):
    assert fastest_kernels(profile) == {"a": "int8", "b": "int8", "c": "fp32"}


@pytest.mark.parametrize("width", [0, 1])
def test_what_tables_miss_of_a_kernel_is_in_the_problem(profile, width):
    """Exactly, for each kernel of another kind, from the fastest kernels of these widths on."""
    near = {**dict.fromkeys(profile.space.sizes, 0), "width:g": width, "branch:r": 1}
    problem = seen_whole(profile, None, time_only(profile), near)
    base = near | {"kernel:a": 1, "kernel:b": 1}
    for other in [base, *({**base, f"kernel:{n}": 1 - base[f"kernel:{n}"]} for n in NAMES)]:
        c = profile.configuration(other)
        assert problem.latency_ns(other) == pytest.approx(exact_ns(c.kernels, c.widths["g"]))
    assert time_only(profile).latency_ns(near) < problem.latency_ns(base)
    assert problem.latency_ns(base) < problem.latency_ns(near)


def test_what_tables_overrate_is_not_given_back(profile):
    """It would be once for every kernel, though no two of them could have it."""
    profile.estimator.latency_ns = lambda c, _: 30.0  # the runtime takes integers, whoever asks
    told = time_only(profile)
    near = dict.fromkeys(profile.space.sizes, 1)
    problem = seen_whole(profile, None, told, near)
    assert problem.latency_ns(near) == pytest.approx(30.0)
    floats = {**near, **{f"kernel:{n}": 0 for n in NAMES}}
    assert problem.latency_ns(floats) >= 30.0 + told.latency_ns(floats) - told.latency_ns(near)


def test_nothing_is_missed_of_a_kernel_that_is_gone(profile):
    near = {**dict.fromkeys(profile.space.sizes, 0), "branch:r": 1}
    told, problem = time_only(profile), seen_whole(profile, None, time_only(profile), near)
    gone = {**near, "branch:r": 0}
    missed = [problem.latency_ns(a) - told.latency_ns(a) for a in (gone, {**gone, "kernel:c": 1})]
    assert missed[0] == pytest.approx(missed[1])
