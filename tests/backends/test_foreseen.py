"""The kernels of a plan against the nodes of onnxruntime's own optimised graph of its file."""

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from hwprune.backends.cpu import CpuBackend
from hwprune.models.densenet import DenseNet
from hwprune.models.resnet import cifar_resnet

from hwprune.backend import RUN
from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.latency.kernels import KernelGraph
from hwprune.plan import Configuration
from hwprune.rewrites.means import pool_means
from hwprune.stages.trial_plans import as_built
from hwprune.testing.families import randomize
from hwprune.testing.networks import attended, build, flat_head, layer_normed


@pytest.fixture(scope="module", params=["resnet", "densenet"])
def network(request):
    torch.manual_seed(0)
    module = cifar_resnet(8) if request.param == "resnet" else DenseNet(layers=2)
    graph = pool_means(graph_from_module(randomize(module.eval()), (torch.zeros(1, 3, 32, 32),)))
    return graph, KernelGraph(graph, couple(graph), CpuBackend().capabilities())


def plan(network: KernelGraph, share: float, seed: int) -> Configuration:
    rng = random.Random(seed)
    multiple = rng.choice((1, 4, 8))
    widths = {
        g.name: min(g.width, multiple * max(1, round(g.width * rng.uniform(0.4, 1) / multiple)))
        for g in network.coupling.prunable
    }
    able = [s.node for s in network.steps if len(s.precisions) > 1]
    return Configuration(widths, kernels={n: "int8" for n in able if rng.random() < share})


def compared(network, c: Configuration, folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Names of the nodes that run, and of those that were foreseen."""
    graph, kernels = network
    path, backend = folder / "plan.onnx", CpuBackend()
    path.write_bytes(as_built(graph, kernels, c, kernels.capabilities).SerializeToString())
    expected = [k for k in kernels.kernels(c.widths, c.dropped, c.kernels) if k != RUN]
    named = Counter(n for names in backend.names(expected) for n in names)
    return Counter(backend.executed(path)), named


@pytest.mark.ort
@pytest.mark.parametrize("seed", range(3))
def test_fp32_plans_run_exactly_what_is_foreseen(network, seed, tmp_path):
    real, foreseen = compared(network, plan(network[1], 0.0, seed), tmp_path)
    assert real == foreseen


@pytest.mark.ort
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_int8_and_mixed_plans_run_nearly_what_is_foreseen(network, share, tmp_path):
    pairs = [compared(network, plan(network[1], share, seed), tmp_path) for seed in range(4)]
    common = sum((real & foreseen).total() for real, foreseen in pairs)
    most = sum(max(real.total(), foreseen.total()) for real, foreseen in pairs)
    assert common / most > 0.85


@pytest.mark.ort
@pytest.mark.parametrize("block", [layer_normed, attended], ids=lambda block: block.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_products_in_any_kernel_run_what_is_foreseen(block, seed, tmp_path):
    graph = build(block, head=flat_head)
    kernels = KernelGraph(graph, couple(graph), CpuBackend().capabilities())
    rng = random.Random(seed)
    able = {s.node: s.precisions for s in kernels.steps if s.op in ("Gemm", "MatMul")}
    chosen = {n: rng.choice([p for p in o if p != "int8"]) for n, o in able.items()}
    real, foreseen = compared((graph, kernels), Configuration(kernels=chosen), tmp_path)
    assert real & foreseen == foreseen
    written = {"MatMulNBits", "DynamicQuantizeMatMul"}
    rounding = sum(k != "fp32" for k in chosen.values())
    assert sum(n for op, n in real.items() if op in written) == rounding > 0
