"""Both ends of a process' pipes at once: a message is sent while lines come back, all in time."""

import os
import select
import subprocess
import time
from collections.abc import Iterator

_CHUNK = 1 << 18


class Link:
    """Speaks with a process that has pipes for input and output; neither side blocks the other.

    Its input stays open: closing it tells the process to end.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", message: bytes) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._to, False)
        self._unsent = memoryview(message)
        self._read = b""

    def skip_to(self, line: str, limit_s: float) -> bool:
        """Reads up to that line; whether it came. Raises TimeoutError."""
        return any(found == line.encode() for found in self.lines(limit_s))

    def lines(self, limit_s: float) -> Iterator[bytes]:
        """Lines as they come, without their ends, until there are no more. Raises TimeoutError.

        An unfinished line at the end is left: the process died, and its status says why.
        """
        deadline = time.monotonic() + limit_s
        while True:
            while b"\n" in self._read:
                line, _, self._read = self._read.partition(b"\n")
                yield line
            if not self._pump(deadline, limit_s):
                return

    def _pump(self, deadline: float, limit_s: float) -> bool:
        """Sends and reads what can be; False once the other side has closed."""
        poll = select.poll()
        poll.register(self._from, select.POLLIN)
        if self._unsent:
            poll.register(self._to, select.POLLOUT)
        ready = {handle for handle, _ in poll.poll(1000 * max(0.0, deadline - time.monotonic()))}
        if not ready:
            raise TimeoutError(f"within {limit_s:.0f} s")
        if self._to in ready:
            self._send()
        if self._from not in ready:
            return True
        found = os.read(self._from, _CHUNK)
        self._read += found
        return bool(found)

    def _send(self) -> None:
        try:
            sent = os.write(self._to, self._unsent[:_CHUNK])
        except BrokenPipeError:  # nobody reads it any more
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
