from dataclasses import replace

import pytest

from hwprune.backend import Identity
from hwprune.latency.fingerprint import describe, differences, fingerprint

HERE = Identity("cpu", "Xeon", "onnxruntime 1.31.1", {"isa": "abc", "cores": "2"})


@pytest.mark.parametrize(
    "other",
    [
        replace(HERE, backend="cuda"),
        replace(HERE, device="Ryzen"),
        replace(HERE, runtime="onnxruntime 1.30.0"),
        replace(HERE, details={"isa": "abd", "cores": "2"}),
        replace(HERE, details={"isa": "abc"}),
    ],
)
def test_every_field_counts(other):
    assert fingerprint(HERE, 1) != fingerprint(other, 1)
    assert differences(describe(HERE, 1), describe(other, 1))


def test_threads_count():
    assert fingerprint(HERE, 1) != fingerprint(HERE, 2)


def test_the_order_of_details_does_not():
    other = replace(HERE, details={"cores": "2", "isa": "abc"})
    assert fingerprint(HERE, 1) == fingerprint(other, 1)


def test_differences_name_the_field():
    other = replace(HERE, runtime="onnxruntime 1.30.0", details={"isa": "abc", "cores": "4"})
    assert differences(describe(HERE, 1), describe(other, 1)) == [
        "cores: 2, not 4",
        "runtime: onnxruntime 1.31.1, not onnxruntime 1.30.0",
    ]


def test_a_detail_does_not_hide_a_field_of_the_same_name():
    one = replace(HERE, details={"threads": "spinning"})
    assert differences(describe(one, 1), describe(one, 2)) == ["threads: 1, not 2"]
