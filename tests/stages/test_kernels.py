"""The fastest kernels of a network that stays whole."""

from types import SimpleNamespace

import numpy as np
import pytest

from hwprune.plan import Configuration
from hwprune.search.problem import Factor
from hwprune.stages.kernels import fastest_kernels


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


def test_kernels_are_gone_over_with_whole_networks():
    """To the tables fp32 is faster in each layer; in truth it costs transposes further on."""
    names = ("a", "b")
    tables = [Factor((f"kernel:{n}",), np.array([9.0, 10.0])) for n in names]
    profile = SimpleNamespace(
        space=SimpleNamespace(
            sizes={"kernel:a": 2, "kernel:b": 2}, kernels=dict.fromkeys(names, ("fp32", "int8"))
        ),
        estimator=SimpleNamespace(
            factors=lambda _: tables,
            latency_ns=lambda c, _: (
                {"fp32": 30.0, "int8": 10.0}[c.kernels["a"]]
                + {"fp32": 9.0, "int8": 10.0}[c.kernels["b"]]
            ),
        ),
        calibration=None,
        configuration=lambda found: Configuration(
            kernels={n: ("fp32", "int8")[found[f"kernel:{n}"]] for n in names}
        ),
        learn=lambda _: None,
    )
    assert fastest_kernels(profile) == {"a": "int8", "b": "fp32"}
