#!/usr/bin/env python3
"""How well the table predicts whole networks: random plans, built and timed, against predictions.

    python tools/bench_latency.py --work DIR [--shared ../shared/data] [--only TEXT] [--threads 1]
                                  [--plans 60] [--target cpu]

Every plan has widths of its own (a third on multiples of 8, a third of 4, a third of anything) and
runs fp32, int8 or a mix. The table is filled and calibrated as `hwprune profile` does it, without
these plans; then all plans are built, written and timed in turns. Beside the prediction, on the
same plans: the rows alone, a model proportional to MACs and one linear in MACs (both fitted to the
plans that calibrate), and one process measured against the others: what measuring itself is worth.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau
from torch import nn

from hwprune.backend import Backend, Kernel
from hwprune.export.rewrites import convolve_shortcuts, pool_means
from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.graph.quarantine import read_untrusted
from hwprune.graph.read import to_proto
from hwprune.latency.calibrate import Calibration, calibrate
from hwprune.latency.estimator import Estimator
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import build_space
from hwprune.latency.table import LatencyTable
from hwprune.plan import Configuration
from hwprune.registry import get_backend
from hwprune.stages.profiling import Rows, priced
from hwprune.stages.trial_plans import as_built, drawn, extremes
from hwprune.testing.families import randomize

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CALIBRATION_PLANS = 14
SECONDS_PER_PLAN = 0.25
PROCESSES = 3
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One predictor on one network: relative errors and rank correlation."""

    network: str
    predictor: str
    median: float
    p90: float
    p95: float
    worst: float
    tau: float


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    backend = get_backend(options.target)
    threads = options.threads or backend.default_threads()
    print("| network | predictor | median % | 90 % | 95 % | worst % | tau |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name, make in networks(options.shared).items():
        if options.only in name:
            path = cached(make, options.work / f"{name}.onnx")
            for line in bench(name, path, backend, threads, options):
                errors = (line.median, line.p90, line.p95, line.worst)
                cells = " | ".join(f"{100 * e:.1f}" for e in errors)
                print(
                    f"| {line.network} | {line.predictor} | {cells} | {line.tau:.3f} |", flush=True
                )


def bench(
    name: str, path: Path, backend: Backend, threads: int, options: argparse.Namespace
) -> list[Line]:
    """Profiles, calibrates, and then compares predictions with `options.plans` timed plans.

    The plans that calibrate and those that are predicted are timed in turns, as the machine's pace
    is another one every few minutes.
    """
    graph, estimator, spent = profiled(path, backend, threads, options.work)
    network, rng = estimator.network, random.Random(options.seed)
    trials = [*extremes(estimator.space)]
    trials += [drawn(estimator.space, rng) for _ in range(CALIBRATION_PLANS - len(trials))]
    trials = [c for c in trials if not estimator.unknown(c)]
    plans = [random_plan(network, rng) for _ in range(options.plans)]
    new = {k for c in plans for k in estimator.unknown(c)}
    with LatencyTable(options.work / "latency.db", backend.identity(), threads) as table:
        rows = Rows(table, backend, lambda *_: None)
        estimator.add_rows(rows.of(sorted(new, key=lambda k: k.key())))
    by_process = time_plans(graph, network, [*trials, *plans], backend, threads)
    times = np.median(by_process, axis=1)
    trained, measured = times[: len(trials)], times[len(trials) :]
    again = by_process[len(trials) :]
    calibration = calibrate([estimator.priced(c) for c in trials], trained.tolist())
    found = [estimator.estimate(c, calibration) for c in plans]
    pairs = zip(measured, (e.interval() for e in found))
    inside = np.mean([low <= ns <= high for ns, (low, high) in pairs])
    macs, trained_macs = (
        np.array([macs_of(network, c) for c in some], float) for some in (plans, trials)
    )
    rows_alone = [estimator.latency_ns(c, Calibration()) for c in plans]
    line = np.polyfit(trained_macs, trained, 1, w=1 / trained)
    rivals = {
        f"table ({spent}, {100 * inside:.0f} % in the interval)": np.array([e.ns for e in found]),
        "rows alone, scaled": scaled(np.array(rows_alone), measured),
        "proportional to MACs": float(np.median(trained / trained_macs)) * macs,
        "linear in MACs": np.polyval(line, macs),
    }
    dump(options.work / f"{name}-{threads}.json", plans, measured, rivals)
    lines = [judged(name, label, guess, measured) for label, guess in rivals.items()]
    rest = np.median(again[:, 1:], axis=1)
    return [*lines, judged(name, "one process, of the others", scaled(again[:, 0], rest), rest)]


def scaled(guess: Array, measured: Array) -> Array:
    """With the one factor that suits it best: an advantage that the others do not have."""
    return guess * float(np.median(measured / guess))


def profiled(
    path: Path, backend: Backend, threads: int, work: Path
) -> tuple[gs.Graph, Estimator, str]:
    """The table filled for a network whose plans may have any width."""
    able = backend.capabilities()
    graph = pool_means(convolve_shortcuts(read_untrusted(path)))
    network = KernelGraph(graph, couple(graph), able)
    begin = time.monotonic()
    estimator = Estimator(network, build_space(network, 1, 8, most=12))
    with LatencyTable(work / "latency.db", backend.identity(), threads) as table:
        rows = Rows(table, backend, lambda *_: None)
        priced(estimator, able.layouts, rows, sweeping=True)
    return graph, estimator, f"{rows.measured} rows in {time.monotonic() - begin:.0f} s"


def random_plan(network: KernelGraph, rng: random.Random) -> Configuration:
    """Widths down to a quarter, on multiples of 8, of 4 or anywhere; kernels fp32, int8, mixed."""
    least, multiple = rng.choice((0.25, 0.5, 0.75)), rng.choice((8, 4, 1))
    widths = {}
    for group in network.coupling.prunable:
        width = round(group.width * rng.uniform(least, 1) / multiple) * multiple
        widths[group.name] = min(group.width, max(multiple, width))
    share = rng.choice((0.0, 0.5, 0.5, 1.0))
    able = [s for s in network.steps if len(s.precisions) > 1]
    kernels = {s.node: s.precisions[-1] for s in able if rng.random() < share}
    return Configuration(widths, frozenset(), kernels)


def time_plans(
    graph: gs.Graph,
    network: KernelGraph,
    plans: Sequence[Configuration],
    backend: Backend,
    threads: int,
) -> Array:
    """The p50 of every plan's file in every process, nanoseconds, all timed in turns."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.onnx" for i in range(len(plans))]
        for path, c in zip(files, plans):
            model = as_built(graph, network, c, network.capabilities)
            path.write_bytes(model.SerializeToString())
        samples = backend.time_models(files, threads, SECONDS_PER_PLAN * len(files), PROCESSES)
    return np.array([[np.median(runs) for runs in s.runs_ns] for s in samples])


def macs_of(network: KernelGraph, c: Configuration) -> int:
    """Multiply-accumulates of a plan."""
    return sum(kernel_macs(k) for k in network.kernels(c.widths, c.dropped, c.kernels))


def kernel_macs(kernel: Kernel) -> int:
    if kernel.op in ("Conv", "Gemm", "MatMul") and len(kernel.inputs) > 1:
        weight = kernel.inputs[1]
        taps = int(np.prod(weight[1:])) if kernel.op == "Conv" else kernel.inputs[0][-1]
        return int(np.prod(kernel.output)) * taps
    return 0


def judged(name: str, label: str, predicted: Array, measured: Array) -> Line:
    errors = np.abs(predicted / measured - 1)
    tau = float(kendalltau(predicted, measured).statistic)
    median, p90, p95 = np.percentile(errors, (50, 90, 95))
    return Line(name, label, float(median), float(p90), float(p95), float(errors.max()), tau)


def dump(
    path: Path, plans: Sequence[Configuration], measured: Array, rivals: dict[str, Array]
) -> None:
    """Everything, for whoever wants to know which plans miss."""
    document = {
        "measured_ns": measured.tolist(),
        "predicted_ns": {name: guess.tolist() for name, guess in rivals.items()},
        "plans": [{"widths": dict(c.widths), "kernels": dict(c.kernels)} for c in plans],
    }
    path.write_text(json.dumps(document))


def cached(make: Callable[[Path], None], path: Path) -> Path:
    if not path.exists():
        make(path)
    return path


def networks(shared: Path) -> dict[str, Callable[[Path], None]]:
    """Name -> what writes its file."""
    from hwprune.models.densenet import densenet40
    from hwprune.models.resnet import cifar_resnet

    found: dict[str, Callable[[Path], None]] = {
        "resnet20": exported(lambda: cifar_resnet(20), 32),
        "resnet56": exported(lambda: cifar_resnet(56), 32),
        "resnet18": exported(resnet18, 224),
        "mobilenetv2": exported(mobilenetv2, 224),
        "densenet40": exported(densenet40, 32),
        "vit-tiny": exported(vit, 224),
    }
    large = shared / "cifar10_resnet_large.onnx"
    if large.exists():
        found["resnet_large"] = lambda path: path.write_bytes(large.read_bytes()) and None
    return found


def exported(make: Callable[[], nn.Module], size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch.manual_seed(0)
        module = randomize(make().eval())
        onnx.save(to_proto(graph_from_module(module, (torch.randn(1, 3, size, size),))), path)

    return write


def conv(
    i: int, o: int, window: int = 3, stride: int = 1, groups: int = 1, act: nn.Module | None = None
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(i, o, window, stride, window // 2, groups=groups, bias=False),
        nn.BatchNorm2d(o),
    ]
    return nn.Sequential(*layers, *([act] if act else []))


class Residual(nn.Module):
    """A body and its shortcut, with what comes behind their sum."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, behind: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.behind = body, shortcut, behind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to images."""
        return torch.as_tensor(self.behind(self.body(x) + self.shortcut(x)))


def resnet18() -> nn.Module:
    """He et al. 2016, table 1."""
    layers: list[nn.Module] = [conv(3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            body = nn.Sequential(
                conv(channels, width, 3, stride, act=nn.ReLU()), conv(width, width)
            )
            same = stride == 1 and channels == width
            shortcut = nn.Identity() if same else conv(channels, width, 1, stride)
            layers.append(Residual(body, shortcut, nn.ReLU()))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def mobilenetv2() -> nn.Module:
    """Sandler et al. 2018, table 2."""
    layers: list[nn.Module] = [conv(3, 32, 3, 2, act=nn.ReLU6())]
    channels = 32
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for expansion, width, blocks, first in stages:
        for block in range(blocks):
            stride, hidden = (first if not block else 1), channels * expansion
            expand = [conv(channels, hidden, 1, act=nn.ReLU6())] if expansion > 1 else []
            deep = conv(hidden, hidden, 3, stride, hidden, act=nn.ReLU6())
            body = nn.Sequential(*expand, deep, conv(hidden, width, 1))
            same = stride == 1 and channels == width
            layers.append(Residual(body, nn.Identity(), nn.Identity()) if same else body)
            channels = width
    layers += [conv(320, 1280, 1, act=nn.ReLU6()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, 1000))


def vit() -> nn.Module:
    """ViT-Tiny/16 (Touvron et al. 2021, table 1)."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3}
    config = ViTConfig(**sizes, intermediate_size=768, num_labels=1000)

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = ViTForImageClassification(config)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.model(pixel_values=x).logits)

    return Logits()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="networks, table and results")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--only", default="", help="networks whose name holds this text")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plans", type=int, default=60)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
