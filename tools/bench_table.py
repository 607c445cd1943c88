"""What a large latency table costs: opening it, looking rows up, memory, storing one result.

python tools/bench_table.py [--rows 100000] [--processes 3] [--runs 30]
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from statistics import median

from hwprune.backend import Identity, Kernel, Samples, Timed
from hwprune.latency.ledger import Ledger
from hwprune.latency.table import LatencyTable
from hwprune.testing.kernels import conv

_HERE = Identity("null", "bench", "none", {})
_LOOKUPS = 10_000
_BATCH = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rows", 100_000), ("processes", 3), ("runs", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    kernels = [conv(channels=(16, 1 + i)) for i in range(asked.rows)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latency.db"
        begin = time.perf_counter()
        _write(path, kernels, asked.processes, asked.runs)
        _say("written", time.perf_counter() - begin)
        print(f"{'file':>24} {path.stat().st_size / 1e6:9.1f} MB")
        _read(path, random.Random(0).sample(kernels, min(_LOOKUPS, len(kernels))))


def _write(path: Path, kernels: list[Kernel], processes: int, runs: int) -> None:
    rng = random.Random(0)
    pool = [_samples(rng, processes, runs) for _ in range(100)]
    with LatencyTable(path, _HERE, 1) as table:
        for start in range(0, len(kernels), _BATCH):
            table.put_many({k: rng.choice(pool) for k in kernels[start : start + _BATCH]})


def _samples(rng: random.Random, processes: int, runs: int) -> Samples:
    times = tuple(
        tuple(rng.randrange(20_000, 90_000) for _ in range(runs)) for _ in range(processes)
    )
    return Samples(times, (1.0,) * processes)


def _read(path: Path, wanted: list[Kernel]) -> None:
    before, begin = _resident_mb(), time.perf_counter()
    table = LatencyTable(path, _HERE, 1)
    _say("open and check", time.perf_counter() - begin)
    begin = time.perf_counter()
    found = table.get_many(wanted)
    _say(f"{len(found)} look-ups", time.perf_counter() - begin)
    begin = time.perf_counter()
    for kernel in wanted:
        table.get(kernel)
    _say(f"{len(wanted)} one by one", time.perf_counter() - begin)
    print(f"{'resident, more':>24} {_resident_mb() - before:9.1f} MB")
    print(f"{'storing one result':>24} {1e3 * median(_commits(table, wanted[:50])):9.2f} ms")
    table.close()
    begin = time.perf_counter()
    with Ledger(path) as ledger:
        ledger.check()
    _say("hwprune table check", time.perf_counter() - begin)


def _commits(table: LatencyTable, kernels: list[Kernel]) -> list[float]:
    spent = []
    for kernel in kernels:
        begin = time.perf_counter()
        table.add([(kernel, Timed((1000,) * 30, 1.0))])
        spent.append(time.perf_counter() - begin)
    return spent


def _say(what: str, seconds: float) -> None:
    print(f"{what:>24} {seconds:9.3f} s")


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
