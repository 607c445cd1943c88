"""A filler that is killed, and a disk that is full: what was said to be stored is there."""

import random
import subprocess
import sys
import time
from statistics import median

import pytest
from hwprune.backends.null import NullBackend

from hwprune.latency.fill import fill
from hwprune.latency.table import LatencyTable
from hwprune.testing.kernels import conv

KERNELS = [conv(channels=(16, c)) for c in range(1, 41)]
PROCESSES = 3

SLOW_FILLER = """
import sys, time
from pathlib import Path
from hwprune.backends.null import NullBackend
from hwprune.latency.fill import fill
from hwprune.latency.table import LatencyTable
from hwprune.testing.kernels import conv

class Slow(NullBackend):
    def time_kernels(self, *request):
        for found in super().time_kernels(*request):
            time.sleep(0.002)
            yield found

class Telling(LatencyTable):
    def add(self, seen):
        super().add(seen)
        print(len(seen), flush=True)

kernels = [conv(channels=(16, c)) for c in range(1, 41)]
with Telling(Path(sys.argv[1]), NullBackend().identity(), 1) as table:
    fill(table, Slow(), kernels)
"""

FULL_DISK = """
import resource, sys
from pathlib import Path
from hwprune.backends.null import NullBackend
from hwprune.errors import StoreError
from hwprune.latency.fill import fill
from hwprune.latency.table import LatencyTable
from hwprune.testing.kernels import conv

path = Path(sys.argv[1])
limit = path.stat().st_size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
kernels = [conv(channels=(16, c)) for c in range(1, 41)]
try:
    with LatencyTable(path, NullBackend().identity(), 1) as table:
        fill(table, NullBackend(), kernels)
except StoreError as error:
    print(error.message, error.hint, sep="\\n")
    sys.exit(error.exit_code)
"""


def opened(path):
    return LatencyTable(path, NullBackend().identity(), 1)


def stored(path):
    with opened(path) as table:
        rows = table.rows(KERNELS)
        assert table.damaged == 0
        assert table.moved_aside is None
    return sum(len(r.samples.runs_ns) for r in rows.values())


def killed(path, delay):
    """What a filler said it had stored when it was killed so many seconds after its first word."""
    command = [sys.executable, "-c", SLOW_FILLER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        said = child.stdout.readline()
        time.sleep(delay)
        child.kill()
        said += child.stdout.read()
    return [int(line) for line in said.splitlines()]


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_9_loses_nothing_that_was_stored(tmp_path, rounds):
    rng = random.Random(rounds)
    before, path, batches = 0, tmp_path / "0.db", []
    for i in range(rounds):
        if before == len(KERNELS) * PROCESSES:
            before, path = 0, tmp_path / f"{i}.db"
        said = killed(path, rng.uniform(0, 0.12))
        now = stored(path)
        # One more commit may be there than was told: the kill came between the two.
        assert 0 <= now - before - sum(said) <= len(KERNELS)
        before, batches = now, batches + said
    assert median(batches) <= 4  # results are not hoarded
    with opened(path) as table:
        fill(table, NullBackend(), KERNELS)
    assert stored(path) == len(KERNELS) * PROCESSES


@pytest.mark.parametrize("room", [0, 3_000, 9_000])
def test_a_full_disk_is_an_error_and_a_later_run_goes_on(tmp_path, room):
    path = tmp_path / "latency.db"
    with opened(path) as table:
        fill(table, NullBackend(), KERNELS[:5])
        before = table.rows(KERNELS[:5])
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(room)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 7, child.stderr
    assert str(path) in child.stdout
    assert "free some space" in child.stdout
    with opened(path) as table:
        assert table.moved_aside is None
        assert table.rows(KERNELS[:5]) == before
        fill(table, NullBackend(), KERNELS)
        assert len(table) == len(KERNELS)
