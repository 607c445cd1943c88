"""A report with every field filled."""

import pytest

from hwprune.report import (
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
)
from hwprune.report.schema import Trial


@pytest.fixture
def report() -> Report:
    """ResNet with three layers: one narrowed and int8, one dropped, one untouched."""
    return Report(
        verdict="met",
        model=Model("digits", "bundled", {"x": (1, 3, 32, 32)}),
        target=Target(
            "cpu",
            "Some <CPU>",
            "onnxruntime 1.31.1",
            1,
            1,
            {"arena": "off", "graph": "all"},
            {"intra_op_num_threads": "1", "enable_cpu_mem_arena": "False"},
        ),
        budget=Bounds(10.0, "p50"),
        latency_ms=Latency(Percentiles(35.0, 41.5), Percentiles(9.6, 10.2), 9.3, 4.0),
        quality=Quality("top1", 0.9917, 0.9889, 360, kl=0.012),
        size_bytes=Change(1_500_000, 312_000),
        macs=Change(1_240_000_000, 310_000_000),
        params=Change(380_000, 95_000),
        layers=(
            Layer("conv1", "Conv", (64, 64), (48, 40), "int8", 8, 8, 512.0),
            Layer("conv2", "Conv", (64, 64), (0, 0), "fp32", 32, 32, 0.0),
            Layer("<fc>", "Gemm", (64, 10), (64, 10), "fp32", 32, 32, 3000.0),
        ),
        rewrites=(AppliedRewrite("shortcuts", "shortcuts are <1x1> convolutions", 0.934),),
        frozen=(Frozen("logits", "they are the output"),),
        search=Search(
            "bo", 3, (0.5, 0.3, 0.25), (Trial(9.5, 0.5), Trial(9.6, 0.3), Trial(9.1, 0.25))
        ),
        stages=(Stage("import", 0.4), Stage("profile", 61.2, resumed=True)),
        warnings=("no <governor> access",),
        versions={"torch": "2.13.0"},
        artifacts={"onnx": "model.onnx", "page": "report.html"},
    )
