"""Thousands of damaged files: `tools/fuzz_reader.py` in short."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "fuzz_reader.py"

pytestmark = [pytest.mark.ort, pytest.mark.slow]


def test_every_mutation_is_read_or_refused(tmp_path):
    command = [sys.executable, "-P", str(TOOL), "--seeds", "2", "--mutations", "500"]
    done = subprocess.run(
        [*command, "--keep", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines()[2:]]
    for _, read, refused, *bad in rows:
        assert int(read) > 25  # else the mutations destroy too much to say anything
        assert int(read) + int(refused) == 500
        assert [int(n) for n in bad[:3]] == [0, 0, 0]
    assert len(rows) == 2
    assert not list(tmp_path.iterdir())
