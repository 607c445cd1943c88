"""Activations in memory: by hand, against slimmed networks, and as a bound of a compile."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hwprune.backends.null import NullBackend
from hwprune.models.resnet import cifar_resnet

import hwprune
from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import build_space
from hwprune.plan import Configuration
from hwprune.stages.memory import Activations, peak_bytes
from hwprune.stages.subject import Subject
from hwprune.testing.families import WRITTEN_OUT, Family

Options = Callable[..., hwprune.CompileOptions]


class Block(torch.nn.Module):
    """Eight channels, twice as many inside, a sum, a view, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.wide = torch.nn.Conv2d(8, 16, 3, padding=1)
        self.back = torch.nn.Conv2d(16, 8, 3, padding=1)
        self.head = torch.nn.Linear(8 * 64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        y = y + self.back(torch.relu(self.wide(y)))
        return self.head(torch.flatten(y, 1))


def subject_of(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Subject:
    backend = NullBackend()
    graph = graph_from_module(module.eval(), inputs)
    return Subject(backend, backend.capabilities(), 1, graph, graph, couple(graph))


def test_by_hand() -> None:
    subject, image = subject_of(Block(), (torch.zeros(1, 3, 8, 8),)), 64
    network = subject.network()
    found = Activations(subject.graph, network)
    whole = 4 * image * (8 + 16 + 8)  # at the convolution back: the sum's other term is waiting
    assert found.peak_bytes(Configuration()) == whole
    assert peak_bytes(subject, subject.graph, {}) == whole
    integers = {s.node: "int8" for s in network.steps if "int8" in s.precisions}
    at_back = image * (8 + 16 + 8)
    image_twice = image * 3 * 5 + image * 8  # fp32 as it came, and quantised
    assert peak_bytes(subject, subject.graph, integers) == max(at_back, image_twice)
    ends = [s for s in network.steps if s.op in ("Flatten", "Reshape")]
    assert ends
    assert all(len(found.live[s.node]) == 1 for s in ends)  # a view is what it shows


@pytest.mark.parametrize("family", WRITTEN_OUT, ids=lambda f: f.name)
def test_foreseen_is_what_slimmed_networks_have(family: Family) -> None:
    check_foreseen(subject_of(family.build(), family.inputs()), seeds=3)


def test_foreseen_for_a_residual_network() -> None:
    check_foreseen(subject_of(cifar_resnet(8), (torch.zeros(1, 3, 32, 32),)), seeds=12)


def check_foreseen(subject: Subject, seeds: int) -> None:
    network = subject.network()
    found, space = Activations(subject.graph, network), build_space(network, 4, 8)
    steps = found.bounds(space, 0.0)
    assert steps
    for seed in range(seeds):
        rng = random.Random(seed)
        assignment = {v: rng.randrange(n) for v, n in space.sizes.items()}
        assignment |= {f"branch:{b}": 1 for b in space.branches if seed % 2}
        c = space.configuration(assignment)
        foreseen = max(b.of(assignment) for b in steps)
        keep = {g: list(range(w)) for g, w in c.widths.items()}
        graph = slim(subject.graph, subject.coupling, keep, c.dropped)
        kernels = {n.name: c.kernels[n.name] for n in graph.nodes if n.name in c.kernels}
        small = KernelGraph(graph, couple(graph), subject.capabilities)
        seen = Activations(graph, small).peak_bytes(Configuration(kernels=kernels))
        assert foreseen >= seen
        if not c.dropped:
            assert foreseen == found.peak_bytes(c) == seen


def test_a_compile_keeps_to_it(ask: Options, tmp_path: Path) -> None:
    free = hwprune.compile(ask(tmp_path / "free", "0.9x"))
    assert free.memory_bytes is not None
    most = int(0.6 * free.memory_bytes.compiled)
    bounded = hwprune.compile(ask(tmp_path / "bounded", "0.9x", max_memory=most))
    assert bounded.verdict == "met"
    assert bounded.memory_bytes is not None
    assert bounded.memory_bytes.compiled <= most < free.memory_bytes.original
    assert bounded.budget.max_memory == most


def test_what_cannot_be_kept_is_said(ask: Options, tmp_path: Path) -> None:
    report = hwprune.compile(ask(tmp_path, "0.9x", max_memory=64))
    assert report.verdict == "missed"
    assert any("--max-memory allows 64 B" in w for w in report.warnings)
