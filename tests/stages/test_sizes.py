"""Bytes of files that were foreseen, against files that were written."""

import random
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
import pytest
import torch
from hwprune.backends.null import NullBackend
from hwprune.models.resnet import cifar_resnet

import hwprune
from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.latency.space import SearchSpace, build_space
from hwprune.plan import Plan
from hwprune.search.problem import Bound
from hwprune.stages.sizes import offering_bits, sizes_of
from hwprune.stages.subject import Subject
from hwprune.stages.trial_plans import as_built

Options = Callable[..., hwprune.CompileOptions]
Case = tuple[Subject, SearchSpace, Bound]


@pytest.fixture(scope="module")
def case() -> Case:
    backend = NullBackend()
    graph = graph_from_module(cifar_resnet(8).eval(), (torch.zeros(1, 3, 32, 32),))
    subject = Subject(backend, backend.capabilities(), 1, graph, graph, couple(graph))
    network = subject.network()
    space = offering_bits(build_space(network, 4, 8), network, 8)
    return subject, space, sizes_of(subject, network, space)


@pytest.mark.parametrize("seed", range(8))
def test_foreseen_bytes_are_those_of_the_file(case: Case, seed: int) -> None:
    subject, space, sizes = case
    rng, network = random.Random(seed), subject.network()
    assignment = {v: rng.randrange(n // 2, n) for v, n in space.sizes.items()}
    assignment |= {v: rng.randrange(2) for v in assignment if v.startswith("kernel:")}
    c = network.settled(space.configuration(assignment))
    assignment |= {f"kernel:{n}": int(k == "int8") for n, k in c.kernels.items()}  # as it runs
    c = space.configuration(assignment)
    model = as_built(subject.graph, network, c, subject.capabilities)
    assert len(model.SerializeToString()) == pytest.approx(sizes.of(assignment), rel=0.05)


def test_weights_weigh_what_their_kernel_stores(case: Case) -> None:
    subject, space, sizes = case
    whole = {v: 0 if v.startswith("kernel:") else n - 1 for v, n in space.sizes.items()}
    integers = whole | {v: 1 for v in whole if v.startswith("kernel:")}
    assert {v.partition(":")[0] for v in whole} == {"width", "branch", "kernel", "bits"}
    constants = [t for t in subject.graph.tensors().values() if isinstance(t, gs.Constant)]
    floats = 4 * sum(t.values.size for t in constants if t.values.dtype.kind == "f")
    assert sizes.of(whole) - sizes.constant == pytest.approx(floats, rel=0.01)
    assert sizes.of(integers) < 0.4 * floats
    packed = integers | {v: 1 for v in whole if v.startswith("bits:")}  # 2 bits: 5 to a byte
    assert sizes.of(packed) < 0.5 * sizes.of(integers)


def test_a_network_that_is_fast_enough_and_only_too_large(ask: Options, tmp_path: Path):
    report = hwprune.compile(ask(tmp_path / "bounded", "2x", max_size=15_000))
    assert report.verdict == "met"
    assert report.size_bytes.compiled <= 15_000 < report.size_bytes.original


def test_bits_widths_and_kernels_answer_a_bound_together(ask: Options, tmp_path: Path):
    """A fifth of the file cannot be had from int8 alone without losing channels."""
    options = ask(tmp_path / "both", "0.9x", max_size=12_000)
    report = hwprune.compile(options)
    plan = Plan.from_json((tmp_path / "both" / "plan.json").read_text())
    few = {n: b for n, b in plan.weight_bits.items() if plan.kernels[n] == "int8" and b < 8}
    assert report.verdict == "met"
    assert report.size_bytes.compiled <= 12_000
    assert few
    assert {n: x.weight_bits for x in report.layers if (n := x.name) in few} == few
    stored = onnx.ModelProto.FromString((tmp_path / "both" / "model.onnx").read_bytes())
    assert any(node.op_type == "Gather" for node in stored.graph.node)  # the packed form


def test_the_biases_that_a_repair_adds_are_foreseen(ask: Options, tmp_path: Path):
    """A network without any gets them behind what was pruned; the timed candidate has them, too."""
    graph = onnx.ModelProto.FromString(Path(ask(tmp_path, "1x").model).read_bytes())
    for node in graph.graph.node:
        if node.op_type == "Conv":
            del node.input[2]
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(graph.SerializeToString())
    report = hwprune.compile(ask(tmp_path / "out", "0.2x", model=str(bare)))
    candidate = tmp_path / "out" / "run" / "candidate.onnx"
    assert report.macs.compiled < report.macs.original
    assert report.size_bytes.compiled <= 1.002 * candidate.stat().st_size
