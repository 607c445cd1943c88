"""Which rewrites are kept, and that everybody takes the same."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_graphsurgeon as gs
import pytest
from hwprune.backends.null import NullBackend

from hwprune.backend import Samples
from hwprune.graph.cost import macs
from hwprune.graph.coupling import couple
from hwprune.rewrites.edit import on_a_copy
from hwprune.rewrites.table import REWRITES, Rewrite
from hwprune.stages import rewriting
from hwprune.stages.choice import Choice
from hwprune.stages.rewriting import Gain, bound_macs, choose, is_worth_it
from hwprune.stages.subject import Subject
from hwprune.testing.networks import build, mean_head, option_a, plain


class Said(NullBackend):
    """Times the files in the order that they are given as `ratio` says: before, after, ..."""

    def __init__(self, fp32: Sequence[float], int8: Sequence[float]) -> None:
        super().__init__()
        self.asked = 0
        self._ratios = [(1.0,) * 3, fp32, (0.8,) * 3, [0.8 * r for r in int8]]

    def time_models(
        self, models: Sequence[Path], threads: int, seconds: float, processes: int
    ) -> list[Samples]:
        """Constant in every process."""
        self.asked += 1
        return [Samples(tuple((r,) * 5 for r in ratios), (1.0,) * 3) for ratios in self._ratios]


class Step:
    def update(self, done: float, text: str = "") -> None:
        pass


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path))


def subject(backend: NullBackend, graph: gs.Graph) -> Subject:
    able = backend.capabilities()
    return Subject(backend, able, 1, graph, graph, couple(graph))


FASTER, SLOWER, EVEN = (0.9, 0.95, 0.97), (1.1, 1.05, 1.02), (0.99, 1.0, 1.005)


@pytest.mark.parametrize(
    ("fp32", "int8", "kept"),
    [
        (FASTER, FASTER, True),
        (EVEN, FASTER, True),  # int8 is what runs faster, and is deployed
        (FASTER, EVEN, False),
        (SLOWER, FASTER, False),
        (FASTER, SLOWER, False),
    ],
)
def test_kept_if_it_is_faster_where_it_counts_and_slower_nowhere(fp32, int8, kept) -> None:
    asked = subject(Said(fp32, int8), build(option_a, plain, stem=16))
    choice = choose(asked, Step())
    assert [r.name for r in choice.applied] == ["shortcuts"] * kept
    assert not choice.notes
    ops = {node.op for node in choice.carried_out(asked).graph.nodes}
    assert ("Pad" in ops) is not kept
    assert [r.ratio for r in choice.applied] == [pytest.approx(0.95)] * kept


@pytest.mark.parametrize(
    ("int8", "kept", "asked"),
    [
        ((0.95, 0.96, 1.01), True, 4),  # eight of twelve processes, by four percent
        ((0.995, 0.996, 1.01), False, 4),  # as many, by less than noise
        ((0.95, 1.01, 1.02), False, 1),  # it does not even look faster
    ],
)
def test_processes_that_do_not_agree_are_asked_again(int8, kept, asked) -> None:
    backend = Said(EVEN, int8)
    choice = choose(subject(backend, build(option_a, plain, stem=16)), Step())
    assert [r.name for r in choice.applied] == ["shortcuts"] * kept
    assert backend.asked == asked


def test_without_integer_kernels_fp32_decides() -> None:
    found = {"fp32": Gain((0.9, 0.95), 100.0), "int8": Gain((1.0, 1.0), 200.0)}
    assert is_worth_it(found)
    assert is_worth_it({"fp32": found["fp32"]})
    assert not is_worth_it({"int8": found["int8"]})


def test_what_does_not_apply_costs_nothing() -> None:
    backend = Said(FASTER, FASTER)
    assert choose(subject(backend, build(plain, stem=16)), Step()) == Choice()
    assert backend.asked == 0


def test_the_choice_is_remembered_whatever_is_measured_next() -> None:
    graph = build(option_a, head=mean_head, stem=16)
    first = choose(subject(Said(FASTER, FASTER), graph), Step())
    assert [r.name for r in first.applied] == ["shortcuts", "means"]
    again = Said(SLOWER, SLOWER)
    assert choose(subject(again, graph), Step()) == first
    assert again.asked == 0
    assert Choice.of(first.document()) == first
    assert choose(subject(again, build(option_a, seed=1, stem=16)), Step()) == Choice()
    assert again.asked == 1  # another network


@on_a_copy
def _wrong(graph: gs.Graph) -> None:
    bias = next(n for n in graph.nodes if n.op == "Conv").inputs[2]
    bias.values = bias.values + 1e-3
    bias.name = "other"


def test_a_rewrite_that_changes_the_function_is_left_out_and_said(monkeypatch) -> None:
    wrong = Rewrite("wrong", "shifts a bias", _wrong)
    monkeypatch.setattr(rewriting, "REWRITES", (wrong, *REWRITES))
    backend = Said(FASTER, FASTER)
    choice = choose(subject(backend, build(option_a, stem=16)), Step())
    assert [r.name for r in choice.applied] == ["shortcuts"]
    assert len(choice.notes) == 1
    assert "the rewrite wrong was left out: outputs differ by" in choice.notes[0]
    assert backend.asked == 1


def test_a_rewrite_that_freezes_channels_is_left_out(monkeypatch) -> None:
    backend, graph = Said(FASTER, FASTER), build(option_a, stem=16)
    asked = subject(backend, graph)
    groups = [replace(g, frozen="so it is") for g in asked.coupling.groups]
    frozen = replace(asked.coupling, groups=tuple(groups))
    assert bound_macs(graph, asked.coupling) < bound_macs(graph, frozen) == macs(graph)
    monkeypatch.setattr(Subject, "with_graph", lambda s, g: replace(s, graph=g, coupling=frozen))
    choice = choose(asked, Step())
    assert not choice.applied
    assert "MACs could not be pruned" in choice.notes[0]
    assert backend.asked == 0
