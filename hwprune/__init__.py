"""A hardware-aware deployment compiler for neural networks.

    report = hwprune.compile(hwprune.CompileOptions(budget=hwprune.parse_budget("10ms")))
    module = hwprune.load("hwprune-out/digits-cpu")
    slim = hwprune.prune(module, 0.5, example=images)

The names below are imported when they are first used: `import hwprune` loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "CompileOptions": "hwprune.compiler",
    "compile": "hwprune.compiler",
    "compile_for": "hwprune.compiler",
    "inspect": "hwprune.stages.inspecting",
    "load": "hwprune.export.load",
    "pareto": "hwprune.compiler",
    "predictor": "hwprune.stages.layer_table",
    "prune": "hwprune.library",
    "Configuration": "hwprune.plan",
    "Plan": "hwprune.plan",
    "Report": "hwprune.report",
    "Budget": "hwprune.units",
    "parse_budget": "hwprune.units",
    "parse_size": "hwprune.units",
    "BackendError": "hwprune.errors",
    "DataError": "hwprune.errors",
    "HwpruneError": "hwprune.errors",
    "InfeasibleError": "hwprune.errors",
    "ModelError": "hwprune.errors",
    "NoisyError": "hwprune.errors",
    "StoreError": "hwprune.errors",
    "UnsafeModelError": "hwprune.errors",
    "UnsupportedModelError": "hwprune.errors",
    "UsageError": "hwprune.errors",
}

if TYPE_CHECKING:
    from hwprune.compiler import CompileOptions, compile, compile_for, pareto
    from hwprune.errors import (
        BackendError,
        DataError,
        HwpruneError,
        InfeasibleError,
        ModelError,
        NoisyError,
        StoreError,
        UnsafeModelError,
        UnsupportedModelError,
        UsageError,
    )
    from hwprune.export.load import load
    from hwprune.library import prune
    from hwprune.plan import Configuration, Plan
    from hwprune.report import Report
    from hwprune.stages.inspecting import inspect
    from hwprune.stages.layer_table import predictor
    from hwprune.units import Budget, parse_budget, parse_size

__all__ = [
    "BackendError",
    "Budget",
    "CompileOptions",
    "Configuration",
    "DataError",
    "HwpruneError",
    "InfeasibleError",
    "ModelError",
    "NoisyError",
    "Plan",
    "Report",
    "StoreError",
    "UnsafeModelError",
    "UnsupportedModelError",
    "UsageError",
    "compile",
    "compile_for",
    "inspect",
    "load",
    "pareto",
    "parse_budget",
    "parse_size",
    "predictor",
    "prune",
]


if not TYPE_CHECKING:  # so that a checker still sees misspelt names

    def __getattr__(name: str) -> object:
        """Imports a public name from its home (PEP 562)."""
        if name not in _HOME:
            raise AttributeError(f"module 'hwprune' has no attribute {name!r}")
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
