"""Over ssh: what is refused, lost or missing is said in words, with what to do."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hwprune.backends.cpu import bootstrap, child, ssh

from hwprune.errors import BackendError
from hwprune.target import Host

QUIET = [("agent", "def main(): pass")]
EDGE = Host("edge", "pi", 2222)
READY = f'printf "%s\\n" "{bootstrap.STARTED}" "{bootstrap.READY}"'


def fails(host: Host) -> BackendError:
    with pytest.raises(BackendError) as caught:
        list(child.ask(QUIET, {}, 20, (), host))
    return caught.value


@pytest.mark.parametrize(
    ("script", "why", "hint"),
    [
        (
            'echo "ssh: Could not resolve hostname edge: Name or service not known" >&2; exit 255',
            "pi@edge: it cannot be reached",
            "ssh -p 2222 pi@edge true",
        ),
        (
            'echo "ssh: connect to host edge port 22: Connection refused" >&2; exit 255',
            "it cannot be reached",
            "its ssh server running",
        ),
        (
            'echo "ssh: connect to host edge port 22: Connection timed out" >&2; exit 255',
            "it cannot be reached",
            "the machine on",
        ),
        (
            'echo "pi@edge: Permission denied (publickey,password)." >&2; exit 255',
            "no password is ever asked for",
            "ssh-copy-id",
        ),
        (
            'echo "Host key verification failed." >&2; exit 255',
            "its host key is not known",
            "compare its fingerprint: ssh -p 2222 pi@edge",
        ),
        (
            'echo "sh: 1: exec: python3: not found" >&2; exit 127',
            "cannot run python3 (status 127: sh: 1: exec: python3: not found)",
            "cpu@ssh:pi@edge/path/to/python",
        ),
        ("exit 255", "pi@edge: ssh failed (it printed nothing)", "try: ssh -p 2222"),
        (
            f"{READY}; echo 'client_loop: send disconnect: Broken pipe' >&2; exit 255",
            "the connection to pi@edge was lost: client_loop: send disconnect",
            "run it again",
        ),
    ],
)
def test_failures_are_told_apart(fake_ssh, script: str, why: str, hint: str) -> None:
    fake_ssh(script)
    error = fails(EDGE)
    assert why in error.message
    assert hint in error.hint


def test_a_host_that_says_nothing_is_given_up(fake_ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ssh("exec sleep 600")
    monkeypatch.setattr(child, "_START_S", 0.2)
    monkeypatch.setattr(child, "_END_S", 0.2)
    assert "no answer from pi@edge within 0 s" in fails(EDGE).message


def test_what_a_login_shell_prints_is_passed_over(fake_ssh, echo) -> None:
    fake_ssh('printf "Welcome!\\n[1]"; for last; do :; done; exec sh -c "$last"')
    host = replace(EDGE, python=sys.executable)
    assert list(child.ask(echo, {"a": 1}, 20, (), host)) == [{"a": 1, "models": []}]


def test_no_client_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ssh.CLIENT, "no-such-ssh -v")
    error = fails(EDGE)
    assert error.message == "cannot run no-such-ssh: No such file or directory"
    assert "HWPRUNE_SSH" in error.hint


def test_nothing_is_asked_nothing_forwarded_and_the_host_is_never_an_option() -> None:
    words = ssh.command(replace(EDGE, python="/opt/my python"), ["-c", "print('a b')"])
    assert words[-3:] == ["--", "edge", """exec '/opt/my python' -c 'print('"'"'a b'"'"')'"""]
    assert words[words.index("-l") + 1] == "pi"
    assert words[words.index("-p") + 1] == "2222"
    assert {"BatchMode=yes", "ClearAllForwardings=yes", "-a", "-x", "-T"} <= set(words)
    assert "-l" not in ssh.command(Host("edge"), [])


def test_a_key_that_is_not_let_in(sshd: Host, tmp_path: Path, monkeypatch) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    config = Path(ssh.client()[2]).read_text().replace("IdentityFile", "#")
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv(ssh.CLIENT, f"ssh -F {tmp_path / 'config'} -i {other}")
    assert "it refused to let us in" in fails(sshd).message


def test_a_host_whose_key_nobody_has_seen(sshd: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    client = " ".join(ssh.client())
    monkeypatch.setenv(ssh.CLIENT, f"{client} -o UserKnownHostsFile=/dev/null")
    assert "its host key is not known" in fails(sshd).message


def test_a_port_where_nobody_listens(sshd: Host) -> None:
    assert "it cannot be reached" in fails(replace(sshd, port=1)).message


def test_a_python_that_is_not_there(sshd: Host) -> None:
    error = fails(replace(sshd, python="/no/such/python"))
    assert "cannot run /no/such/python" in error.message


def test_a_connection_that_breaks_leaves_nothing_behind(
    sshd: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stays, gone
) -> None:
    note = tmp_path / "pid"
    script = tmp_path / "client"
    script.write_text(f'#!/bin/sh\necho $$ >{note}\nexec {" ".join(ssh.client())} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv(ssh.CLIENT, str(script))
    answers = child.ask(stays, {}, 60, (), sshd)
    pid, folder = next(answers)
    subprocess.run(["kill", "-9", note.read_text().strip()], check=True)
    with pytest.raises(BackendError, match=r"connection to .* was lost"):
        next(answers)
    assert gone(pid, folder)
