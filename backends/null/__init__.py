"""A target made of rules and a fake clock: the whole compiler runs on it in tests, in seconds."""

from hwprune.backends.null.backend import FakeClock, NullBackend

__all__ = ["FakeClock", "NullBackend"]
