"""Asks the agent: a process here or on another machine that answers one request, line by line."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from hwprune.backends.cpu import bootstrap, ssh
from hwprune.backends.cpu.link import Link

from hwprune.errors import BackendError, HwpruneError, StoreError
from hwprune.target import Host

# The folder it starts in must not lend it modules; everything else comes by standard input.
_START = (
    "import sys; sys.path[:] = filter(None, sys.path); import json; "
    "sent = json.loads(open(0, 'rb', 0, closefd=False).readline()); "
    "exec(sent['bootstrap']); main(sent)"
)
_START_S, _WAIT_S, _END_S = 60.0, 3600.0, 3.0
_MOST_SAID = 1 << 20  # bytes
_LEAST_BYTES_PER_S = 1e6  # of the way to another machine

Sources = Sequence[tuple[str, str]]  # (module name, text), each after those it imports


def sources(*names: str) -> Sources:
    """Modules of this folder, to be sent; the last one has the `main` that is run."""
    return [(f"{__package__}.{name}", _source(name)) for name in names]


def ask(
    agent: Sources,
    request: dict[str, Any],
    timeout_s: float,
    models: Sequence[bytes] = (),
    host: Host | None = None,
    alone: bool = True,
) -> Iterator[Any]:
    """One request, one fresh process; yields each line of its answer, decoded, as it comes.

    The agent reads the request as a line of JSON and then the models, whose sizes in bytes are
    its field "models". A caller that stops early, or is interrupted, takes the process along.
    `alone`: waits until nobody else measures on that machine.

    Raises:
        BackendError: The host cannot be reached, or the process crashed, hung or answered
            nonsense; with what it printed.
        StoreError: Somebody else measures on the machine for too long.
    """
    limit_s = timeout_s + sum(map(len, models)) / _LEAST_BYTES_PER_S
    message = _message(agent, request, models, limit_s, alone)
    with tempfile.TemporaryFile() as said, _process(host, said) as process:
        link = Link(process, message)
        try:
            started = link.skip_to(bootstrap.STARTED, _START_S)
            if started and link.skip_to(bootstrap.READY, _WAIT_S + _START_S):
                yield from map(json.loads, link.lines(limit_s))
        except TimeoutError as late:
            raise BackendError(f"no answer from {_place(host)} {late}") from None
        except ValueError as error:
            raise BackendError(f"{_place(host)} answered nonsense: {_end(said)}") from error
        status = _status(process)
        if host is not None and not started:
            raise ssh.refusal(host, status, _text(said))
        if status:
            raise _failure(host, status, said)


def _message(
    agent: Sources,
    request: dict[str, Any],
    models: Sequence[bytes],
    limit_s: float,
    alone: bool,
) -> bytes:
    sent = {
        "bootstrap": _source("bootstrap"),
        "sources": agent,
        "alone": alone,
        "wait_s": _WAIT_S,
        "timeout_s": limit_s + _START_S,  # ours comes first, unless the connection is broken
    }
    asked = request | {"models": [len(model) for model in models]}
    lines = [json.dumps(line, allow_nan=False).encode() + b"\n" for line in (sent, asked)]
    return b"".join([*lines, *models])


def _source(name: str) -> str:
    return Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")


@contextlib.contextmanager
def _process(host: Host | None, said: IO[bytes]) -> "Iterator[subprocess.Popen[bytes]]":
    """Python here or over there, ended by closing its input; it cleans up behind itself."""
    start = ["-c", _START]
    words = [sys.executable, *start] if host is None else ssh.command(host, start)
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            words, bufsize=0, stdin=pipe, stdout=pipe, stderr=said, start_new_session=True
        )
    except OSError as error:
        raise BackendError(
            f"cannot run {words[0]}: {error.strerror}", "" if host is None else ssh.INSTALL
        ) from error
    try:
        yield process
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        _status(process)


def _status(process: "subprocess.Popen[bytes]") -> int:
    """Its exit status; a process that does not end soon is killed."""
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _failure(host: Host | None, status: int, said: IO[bytes]) -> HwpruneError:
    """What a status other than 0 of a process that did start means."""
    if status == bootstrap.BUSY:
        hours = f"{_WAIT_S / 3600:.0f} h"
        return StoreError(f"another measurement has held {_place(host)} for {hours}", "wait for it")
    if host is not None and (status == ssh.LOST or status < 0):
        return BackendError(f"the connection to {host} was lost: {_end(said)}", "run it again")
    if missing := re.search(r"No module named '(numpy|onnxruntime)\b", _text(said)):
        pip = "python -m pip" if host is None else f"{ssh.by_hand(host)} {host.python} -m pip"
        where = _place(host)
        return BackendError(f"{where} has no {missing[1]}", f"{pip} install numpy onnxruntime")
    return BackendError(f"measuring on {_place(host)} {_how(status)}: {_end(said)}")


def _how(status: int) -> str:
    try:
        name = signal.Signals(-status if status < 0 else status - 128).name
    except ValueError:
        return f"failed with status {status}"
    return f"was ended by {name}"


def _place(host: Host | None) -> str:
    return "this machine" if host is None else str(host)


def _text(said: IO[bytes]) -> str:
    return os.pread(said.fileno(), _MOST_SAID, 0).decode(errors="replace")


def _end(said: IO[bytes]) -> str:
    text = _text(said)
    lines = text.strip().splitlines() or ["it printed nothing"]
    return lines[-1] if "Traceback" in text else "\n".join(lines[-5:])
