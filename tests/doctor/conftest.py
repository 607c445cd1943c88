"""A checkup of a steady server of eight cores."""

import pytest

from hwprune.backend import Identity
from hwprune.doctor.checkup import Checkup, TableState
from hwprune.doctor.noise import Noise


@pytest.fixture
def steady() -> Noise:
    """Nobody else is there."""
    return Noise(2000, 5e5, 1.01, 1.02, 1.05, 0.99, 0.01, 0.004, 0.001, 0.0, 0.0)


@pytest.fixture
def server(steady: Noise) -> Checkup:
    """Bare metal with VNNI, its clock fixed, some rows in the table."""
    details = {"int8": "vnni", "simd": "avx avx2 avx512_vnni avx512f", "cores": "8"}
    conditions = {
        "governor": "performance", "turbo": "off", "temperature_c": "50", "quota_cpus": "none",
        "load": "0.2", "hypervisor": "none", "power": "mains", "frequency_mhz": "2600",
        "stolen_s": "unknown",
    }  # fmt: skip
    identity = Identity("cpu", "Xeon", "onnxruntime 1.31.1", details)
    return Checkup("cpu", 4, identity, conditions, 8, TableState("latency.db", 12), steady)
