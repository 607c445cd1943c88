"""Another machine over OpenSSH: the command that starts Python there, and what failures mean."""

import os
import re
import shlex
from collections.abc import Sequence

from hwprune.errors import BackendError
from hwprune.target import Host

CLIENT = "HWPRUNE_SSH"  # the ssh command with options of one's own: "ssh -F config -i key"
INSTALL = f"install OpenSSH's client, or name it in {CLIENT}"
LOST = 255  # the status ssh keeps for itself
# No question is ever asked, nothing is forwarded, and a line that went dead is noticed.
_OPTIONS = [
    *("-T", "-a", "-x"),
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
    *("-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none"),
]
_REFUSALS = (
    (
        r"Host key verification failed|No .* host key is known|IDENTIFICATION HAS CHANGED",
        "its host key is not known, or not the one it had",
        "connect once by hand and compare its fingerprint: {ssh}",
    ),
    (
        r"Permission denied|Too many authentication failures|No supported authentication",
        "it refused to let us in, and no password is ever asked for",
        "ssh-copy-id lets a key in, ssh-add unlocks it, until this works: {ssh} true",
    ),
    (
        r"Could not resolve|refused|timed out|[Nn]o route to host|unreachable|Name or service",
        "it cannot be reached",
        "is the name right, the machine on, and its ssh server running? try: {ssh} true",
    ),
)


def command(host: Host, python: Sequence[str]) -> list[str]:
    """The command that runs `python` (arguments of the interpreter) on the host."""
    port = [] if host.port is None else ["-p", str(host.port)]
    user = [] if host.user is None else ["-l", host.user]
    remote = shlex.join(["exec", host.python, *python])
    return [*client(), *_OPTIONS, *port, *user, "--", host.name, remote]


def client() -> list[str]:
    """`ssh`, or what HWPRUNE_SSH says instead."""
    return shlex.split(os.environ.get(CLIENT, "")) or ["ssh"]


def refusal(host: Host, status: int, said: str) -> BackendError:
    """Why nothing was started on the host, from what ssh or the shell over there printed."""
    for pattern, why, hint in _REFUSALS if status == LOST else ():
        if re.search(pattern, said):
            told = hint.format(ssh=by_hand(host), host=host)
            return BackendError(f"{host}: {why} ({_last(said)})", told)
    if status == LOST:
        return BackendError(f"{host}: ssh failed ({_last(said)})", f"try: {by_hand(host)} true")
    return BackendError(
        f"{host} cannot run {host.python} (status {status}: {_last(said)})",
        f"name a Python 3.8 or newer that has onnxruntime: cpu@ssh:{host}/path/to/python",
    )


def by_hand(host: Host) -> str:
    """What one would type to get there."""
    port = [] if host.port is None else ["-p", str(host.port)]
    return shlex.join([*client(), *port, str(host)])


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
