"""Agents that stand in for the real one, a real ssh server on the loopback, and a pretended ssh."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwprune.target import Host

Sources = list[tuple[str, str]]
Fake = Callable[[str], Host]
Gone = Callable[[int, str], bool]

ECHO = """
import json, sys

def main():
    request = json.loads(sys.stdin.buffer.readline())
    for size in request["models"]:
        model = sys.stdin.buffer.read(size)
        print(json.dumps([len(model), model[:1].decode(), model[-1:].decode()]))
    print(json.dumps(request), flush=True)
"""
STAYS = """
import json, os, sys, time

def main():
    sys.stdin.buffer.readline()
    open("trace", "w").close()
    print(json.dumps([os.getpid(), os.getcwd()]), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def echo() -> Sources:
    """An agent that tells what it was sent."""
    return [("agent", ECHO)]


@pytest.fixture
def stays() -> Sources:
    """An agent that tells its process and its folder, and never ends."""
    return [("agent", STAYS)]


@pytest.fixture(scope="session")
def gone() -> Gone:
    """`gone(pid, folder)`: whether neither of the two is left, within some seconds."""

    def wait(pid: int, folder: str) -> bool:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if not Path(f"/proc/{pid}").exists() and not Path(folder).exists():
                return True
            time.sleep(0.05)
        return False

    return wait


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """`fake_ssh(script)`: what `ssh` does from now on; its arguments are kept in `arguments`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.delenv("HWPRUNE_SSH", raising=False)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(script: str) -> Host:
        path = folder / "ssh"
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path / "arguments"}\n{script}\n')
        path.chmod(0o755)
        return Host("edge", "pi", 2222)

    return make


@pytest.fixture
def sshd(server: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> Host:
    """This machine, over a server of our own; HWPRUNE_SSH has the key that it lets in."""
    port, config = server
    monkeypatch.setenv("HWPRUNE_SSH", f"ssh -F {config}")
    return Host("localhost", getpass.getuser(), port, sys.executable)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a server on the loopback, and the configuration of a client that may use it."""
    program, keygen = shutil.which("sshd", path=_path()), shutil.which("ssh-keygen")
    if program is None or keygen is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here: install openssh-server")
    folder = tmp_path_factory.mktemp("sshd")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    for name in ("host", "mine"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "sshd_config").write_text(_server(folder, port))
    (folder / "ssh_config").write_text(_client(folder, port))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    words = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
    with (folder / "log").open("w") as log, subprocess.Popen(words, stderr=log) as running:
        _reachable(port, running, folder / "log")
        yield port, folder / "ssh_config"
        running.terminate()


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def _server(folder: Path, port: int) -> str:
    return f"""ListenAddress 127.0.0.1
Port {port}
HostKey {folder / "host"}
AuthorizedKeysFile {folder / "mine.pub"}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""


def _client(folder: Path, port: int) -> str:
    kind, key, *_ = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[localhost]:{port} {kind} {key}\n")
    return f"""IdentityFile {folder / "mine"}
IdentitiesOnly yes
IdentityAgent none
UserKnownHostsFile {folder / "known_hosts"}
GlobalKnownHostsFile /dev/null
AddressFamily inet
"""


def _reachable(port: int, running: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(100):
        if running.poll() is not None:
            pytest.skip(f"sshd does not start here: {log.read_text().strip()[-200:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    running.kill()
    pytest.skip("sshd does not answer here")
