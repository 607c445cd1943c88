import subprocess
import sys
import time

import pytest

from hwprune.errors import StoreError
from hwprune.store.lock import locked

HOLD = (
    "import sys, time; from pathlib import Path; from hwprune.store.lock import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path/lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        child.stdout.readline()
        yield child
        child.kill()


def test_the_second_is_told_who_holds_it(tmp_path, holder):
    with (
        pytest.raises(StoreError, match=f"locked by pid {holder.pid} since 20") as error,
        locked(tmp_path / "lock"),
    ):
        pass
    assert error.value.exit_code == 7


def test_a_killed_holder_leaves_no_stale_lock(tmp_path, holder):
    holder.kill()
    holder.wait()
    begin = time.monotonic()
    with locked(tmp_path / "lock"):
        assert time.monotonic() - begin < 1


def test_waiting_ends_when_the_holder_does(tmp_path, holder):
    holder.kill()
    with locked(tmp_path / "lock", wait_s=10):
        pass


def test_who_waits_is_told_for_whom_once(tmp_path, holder):
    told = []
    with (
        pytest.raises(StoreError),
        locked(tmp_path / "lock", wait_s=0.3, waiting=told.append),
    ):
        pass
    assert len(told) == 1
    assert told[0].startswith(f"pid {holder.pid} since")


def test_it_can_be_taken_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock"):
        1 / 0  # noqa: B018
    with locked(tmp_path / "lock"):
        pass


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot lock"), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()
