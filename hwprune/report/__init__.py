"""What a run found, as data (`report.json`), as text and as a page."""

from hwprune.report.html import write_html
from hwprune.report.inspection import BranchInfo, GroupInfo, Inspection, VerifyResult
from hwprune.report.schema import (
    AppliedRewrite,
    Bounds,
    Change,
    Frozen,
    Latency,
    Layer,
    Model,
    Percentiles,
    Quality,
    Report,
    Search,
    Stage,
    Target,
    Verdict,
)
from hwprune.report.text import print_report

__all__ = [
    "AppliedRewrite",
    "Bounds",
    "BranchInfo",
    "Change",
    "Frozen",
    "GroupInfo",
    "Inspection",
    "Latency",
    "Layer",
    "Model",
    "Percentiles",
    "Quality",
    "Report",
    "Search",
    "Stage",
    "Target",
    "Verdict",
    "VerifyResult",
    "print_report",
    "write_html",
]
