"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests run side by side on few cores; threads that wait for one another would cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
BESIDE = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of reference networks and images; HWPRUNE_SHARED names its parent folder."""
    data = Path(os.environ.get("HWPRUNE_SHARED", BESIDE)) / "data"
    if not data.is_dir():
        pytest.skip(f"no reference data at {data}; set HWPRUNE_SHARED to the folder above it")
    return data


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests share a latency table among themselves and leave the user's alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWPRUNE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield
