"""Latency tables: kernels, measuring, predicting."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwprune.latency.predict import Interval, Predictor, estimate

__all__ = ["Interval", "Predictor", "estimate"]


def __getattr__(name: str) -> Any:
    """Loaded when asked for: numpy and scipy take their time (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'hwprune.latency' has no attribute {name!r}")
    from hwprune.latency import predict

    return getattr(predict, name)
