"""What is sent ahead to whoever measures, here or on another machine: it lives by standard input.

Needs Python 3.8 and nothing else, for it runs where hwprune is not installed. The first line of
standard input is JSON: this very text, and the sources of the agent, which reads its request from
the rest. While that input is open the agent works, in a process and a temporary folder of its own;
once it is closed (the caller is done or dead, the connection broken) both are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types
from typing import Any

STARTED, READY = "hwprune: started", "hwprune: ready"  # lines of standard output
BUSY, LATE, ABANDONED = 75, 124, 129  # exit statuses
_LOOK_S = 0.5  # between two looks at the lock
_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


def main(sent: dict[str, Any]) -> None:
    """Runs the last of the sources, cleans up behind it, and exits with its status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(ABANDONED))
    print(f"\n{STARTED}", flush=True)  # whatever a login shell has printed is above this line
    if sent["alone"]:
        _wait_for_the_machine(sent["wait_s"])
    print(READY, flush=True)
    folder = tempfile.mkdtemp(prefix="hwprune-")
    worker, alive = _fork(sent["sources"], folder)
    gone: list[int] = []
    try:
        gone = _hung_up([0, alive], sent["timeout_s"])  # nobody wakes up while it measures
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker, signal.SIGKILL)
        _, status = os.waitpid(worker, 0)
        shutil.rmtree(folder, ignore_errors=True)
    if alive not in gone:
        sys.exit(ABANDONED if gone else LATE)
    sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def _wait_for_the_machine(wait_s: float) -> None:
    """Two measurements at once would slow each other down; a lock on a folder leaves no file."""
    handle = os.open(tempfile.gettempdir(), os.O_RDONLY)  # held until this process ends
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                sys.exit(BUSY)
            if _hung_up([0], _LOOK_S):
                sys.exit(ABANDONED)


def _fork(sources: list[tuple[str, str]], folder: str) -> tuple[int, int]:
    """The process that works, in a group of its own, and a handle that hangs up when it ends."""
    alive, held = os.pipe()
    worker = os.fork()
    os.setpgid(worker, worker)
    if worker:
        os.close(held)
        return worker, alive
    status = 1
    try:
        _work(sources, folder)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):  # nobody may be left to read it
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _work(sources: list[tuple[str, str]], folder: str) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    os.chdir(folder)
    for name, source in sources:
        module = _module(name)
        exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    module.main()


def _module(name: str) -> types.ModuleType:
    """An empty module of that name within empty packages, so that sources import one another."""
    parent, _, last = name.rpartition(".")
    found = sys.modules[name] = types.ModuleType(name)
    if parent:
        package = sys.modules.get(parent) or _module(parent)
        package.__path__ = []
        setattr(package, last, found)
    return found


def _hung_up(handles: list[int], wait_s: float) -> list[int]:
    """Those of the handles whose other end is closed, as soon as there is one."""
    poll = select.poll()
    for handle in handles:
        poll.register(handle, _GONE)
    return [handle for handle, _ in poll.poll(1000 * wait_s)]
