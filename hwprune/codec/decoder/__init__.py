"""Reads a .hwp file with numpy and the standard library alone.

Nothing in this folder imports anything outside it, so that it can be taken along, and ported: the
format is in docs/format.md.
"""

from .container import MAGIC, DecodeError
from .model import Decoded, decode

__all__ = ["MAGIC", "DecodeError", "Decoded", "decode"]
