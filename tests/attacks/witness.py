"""Tells which files anyone opened or read, by asking the kernel (inotify, Linux only)."""

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

READ, OPENED = 0x1, 0x20  # IN_ACCESS, IN_OPEN
_EVENT = struct.Struct("iIII")


@contextmanager
def watched(*paths: Path) -> Iterator[list[tuple[str, int]]]:
    """The list holds, once the block is left, (file name, event) of whatever happened in it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs inotify, which only Linux has")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    if descriptor < 0:
        pytest.skip(f"inotify: {os.strerror(ctypes.get_errno())}")
    try:
        names = {}
        for path in paths:
            watch = libc.inotify_add_watch(descriptor, os.fsencode(path), READ | OPENED)
            assert watch >= 0, f"{path}: {os.strerror(ctypes.get_errno())}"
            names[watch] = path.name
        seen: list[tuple[str, int]] = []
        yield seen
        seen.extend((names[watch], event) for watch, event in _events(descriptor))
    finally:
        os.close(descriptor)


def _events(descriptor: int) -> Iterator[tuple[int, int]]:
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            yield watch, mask & (READ | OPENED)
