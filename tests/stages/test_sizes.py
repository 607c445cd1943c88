"""Bytes of files that were foreseen, against files that were written."""

import random
from collections.abc import Callable
from pathlib import Path

import onnx_graphsurgeon as gs
import pytest
import torch
from hwprune.backends.null import NullBackend
from hwprune.models.resnet import cifar_resnet

import hwprune
from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.latency.space import SearchSpace, build_space
from hwprune.stages.sizes import Sizes, sizes_of
from hwprune.stages.subject import Subject
from hwprune.stages.trial_plans import as_built

Options = Callable[..., hwprune.CompileOptions]
Case = tuple[Subject, SearchSpace, Sizes]


@pytest.fixture(scope="module")
def case() -> Case:
    backend = NullBackend()
    graph = graph_from_module(cifar_resnet(8).eval(), (torch.zeros(1, 3, 32, 32),))
    subject = Subject(backend, backend.capabilities(), 1, graph, graph, couple(graph))
    network = subject.network()
    space = build_space(network, 4, 8)
    return subject, space, sizes_of(subject, network, space)


@pytest.mark.parametrize("seed", range(8))
def test_foreseen_bytes_are_those_of_the_file(case: Case, seed: int) -> None:
    subject, space, sizes = case
    rng, network = random.Random(seed), subject.network()
    assignment = {v: rng.randrange(n // 2, n) for v, n in space.sizes.items()}
    assignment |= {v: rng.randrange(2) for v in assignment if v.startswith("kernel:")}
    c = network.settled(space.configuration(assignment))
    assignment |= {f"kernel:{n}": int(k == "int8") for n, k in c.kernels.items()}  # as it runs
    model = as_built(subject.graph, network, c, subject.capabilities)
    assert len(model.SerializeToString()) == pytest.approx(sizes.of(assignment), rel=0.05)


def test_weights_weigh_what_their_kernel_stores(case: Case) -> None:
    subject, space, sizes = case
    whole = {v: 0 if v.startswith("kernel:") else n - 1 for v, n in space.sizes.items()}
    integers = whole | {v: 1 for v in whole if v.startswith("kernel:")}
    constants = [t for t in subject.graph.tensors().values() if isinstance(t, gs.Constant)]
    floats = 4 * sum(t.values.size for t in constants if t.values.dtype.kind == "f")
    assert sizes.of(whole) - sizes.constant == pytest.approx(floats, rel=0.01)
    assert sizes.of(integers) < 0.4 * floats


@pytest.mark.parametrize(("budget", "share"), [("0.9x", 0.2), ("2x", 0.2)])
def test_a_compile_keeps_to_time_and_size(ask: Options, tmp_path: Path, budget: str, share: float):
    """Also where the network as it came is fast enough, and only too large."""
    free = hwprune.compile(ask(tmp_path / "free", budget))
    most = int(share * free.size_bytes.original)
    bounded = hwprune.compile(ask(tmp_path / "bounded", budget, max_size=most))
    assert bounded.verdict == "met"
    assert bounded.size_bytes.compiled <= most < free.size_bytes.compiled
