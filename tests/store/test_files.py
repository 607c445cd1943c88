import os
import resource
import signal
import subprocess
import sys

import pytest

from hwprune.errors import StoreError
from hwprune.store.files import write_atomic


@pytest.fixture
def full_disk():
    """No file may grow beyond 4 kB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "plan.json"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["plan.json"]


def test_keeps_the_permissions_of_what_it_replaces(tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_atomic(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_new_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomic(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, full_disk):
    path = tmp_path / "model.onnx"
    write_atomic(path, b"old")
    with pytest.raises(StoreError, match=r"model\.onnx") as error:
        write_atomic(path, bytes(10_000))
    assert error.value.exit_code == 7
    assert "space" in error.value.hint
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="absent"):
        write_atomic(tmp_path / "absent" / "file", b"")


def test_names_of_255_bytes_work(tmp_path):
    path = tmp_path / ("n" * 255)
    write_atomic(path, b"data")
    assert path.read_bytes() == b"data"


def test_a_killed_writer_leaves_the_old_or_the_new_file(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"a" * 100_000)
    code = (
        "import sys; from pathlib import Path; from hwprune.store.files import write_atomic\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for c in (b'a', b'b'): write_atomic(Path(sys.argv[1]), c * 100_000)"
    )
    for delay in (0.01, 0.03, 0.07):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout
            child.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(delay)
            child.kill()
        content = path.read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1
