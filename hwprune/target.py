"""How a target is written: `cpu`, or `cpu@ssh:user@host:22/path/to/python` for another machine."""

import re
from dataclasses import dataclass

from hwprune.errors import UsageError

# No part may begin with "-" or hold anything that a shell or ssh itself would read as more.
_WORD = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_HOST = (
    rf"(?:(?P<user>{_WORD})@)?"
    rf"(?P<name>{_WORD}|\[[0-9A-Fa-f:.]+\])"  # in brackets: an IPv6 address
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<python>(?:/[A-Za-z0-9_.+][A-Za-z0-9_.+-]*)+)?"
)
_TARGET = re.compile(rf"(?P<backend>{_WORD})(?:@ssh:{_HOST})?")
_PYTHON = "python3"


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that is reached with ssh, and the Python there that has the runtime."""

    name: str
    user: str | None = None
    port: int | None = None
    python: str = _PYTHON

    def __str__(self) -> str:
        return f"{self.user}@{self.name}" if self.user else self.name


@dataclass(frozen=True, slots=True)
class TargetName:
    """A backend by name, and the machine to use it on; None: this one."""

    backend: str
    host: Host | None = None

    @property
    def label(self) -> str:
        """'cpu', or 'cpu-edge': fit for the name of a folder."""
        if self.host is None:
            return self.backend
        return f"{self.backend}-{self.host.name.replace(':', '_')}"


def parse_target(text: str) -> TargetName:
    """Reads 'cpu' or 'cpu@ssh:[user@]host[:port][/path/to/python]'. Raises UsageError."""
    found = _TARGET.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 1 << 16):
        raise UsageError(
            f"there is no target {text!r}",
            "write it as cpu, or for another machine as cpu@ssh:user@host:22/path/to/python "
            "(user, port and path may be left out)",
        )
    if found["name"] is None:
        return TargetName(found["backend"])
    host = Host(found["name"].strip("[]"), found["user"], port, found["python"] or _PYTHON)
    return TargetName(found["backend"], host)
