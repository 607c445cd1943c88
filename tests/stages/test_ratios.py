"""A compile whose widths are trained: `--search dsa`, on a network that has learnt the digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import hwprune
from hwprune import compiler
from hwprune.differentiable import allocator
from hwprune.errors import DataError, UnsupportedModelError, UsageError
from hwprune.frontend.dataset import DataSet
from hwprune.graph.read import canonical, clone, to_proto
from hwprune.latency.calibrate import Calibration
from hwprune.network.twin import to_module, write_back
from hwprune.stages import outcome, ratios
from hwprune.testing.networks import Builder, pooled_head
from hwprune.train.batchnorm import normalized
from hwprune.train.loop import fit
from hwprune.train.recipe import Recipe

pytestmark = pytest.mark.ort


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The files of a small network that tells digits of 8 x 8 pixels apart, and of the digits."""
    folder = tmp_path_factory.mktemp("digits")
    found = load_digits()
    x, y = (found.images / 8 - 1).astype(np.float32)[:, None], found.target.astype(np.int64)
    b = Builder(0, (1, 8, 8))
    h = b.relu(b.conv("x", 16))
    h = b.relu(b.conv(b.relu(b.conv(h, 32)), 32, stride=2))
    h = b.relu(b.sum(b.conv(b.relu(b.conv(h, 48)), 32), h))
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [h], (32, 1, 1))], (32, 1, 1))
    out = b.add("Gemm", [flat, b.weight(10, 32), b.vector(10)], (10, 1, 1), transB=1)
    graph = canonical(b.model(out, classes=10))
    data, twin = DataSet(x[:1200], y[:1200]), to_module(graph)
    with normalized(twin, data, 0):
        fit(twin, to_module(graph), data, Recipe(6, 0.1, label_weight=1.0), 0)
    trained = clone(graph)
    write_back(twin, trained)
    (folder / "digits.onnx").write_bytes(to_proto(trained).SerializeToString())
    files = {"train_data": folder / "train.npz", "eval_data": folder / "eval.npz"}
    np.savez(files["train_data"], x=x[:1200], y=y[:1200])
    np.savez(files["eval_data"], x=x[1200:], y=y[1200:])
    named = {name: str(path) for name, path in files.items()}
    return {"model": str(folder / "digits.onnx"), "data": None, **named}


@pytest.fixture(scope="module")
def trained(ask, digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("dsa") / "out"
    return hwprune.compile(asked(ask, out, digits)), out


def asked(ask, out, digits, **more):
    usual = {"search": "dsa", "epochs": 4, "shapes": {}, "budget": "0.35x"}
    options = usual | digits | more
    return ask(out, options.pop("budget"), **options)


def test_the_budget_is_met_and_used_and_the_digits_are_still_known(trained):
    report, _ = trained
    assert report.verdict == "met"
    assert report.search.strategy == "dsa"
    used = report.latency_ms.compiled.p50 / report.budget.latency_ms
    assert 0.85 <= used <= 1.0
    assert report.quality.original > 0.85
    assert report.quality.compiled > report.quality.original - 0.08
    assert report.cuts


def test_a_corrected_table_trains_nothing_again(ask, tmp_path, monkeypatch):
    """A first look that is too careful leaves a part of the budget; rounds after it decode.

    There are no labels here: the answers of the original teach.
    """
    calls = []

    def counted(*given, **more):
        calls.append(given)
        return learn(*given, **more)

    learn = ratios.learn_ratios
    monkeypatch.setattr(ratios, "learn_ratios", counted)
    monkeypatch.setattr(outcome, "first_look", lambda *_: Calibration(factor=1.3))
    notes = []
    progress = Noting(notes)
    report = compiler.compile(ask(tmp_path / "out", "0.3x", search="dsa"), progress)
    assert len(calls) == 1
    assert any(note.startswith("round 2") for note in notes)
    assert report.verdict == "met"
    assert report.latency_ms.compiled.p50 / report.budget.latency_ms > 0.85
    assert report.quality.metric == "agreement"


def test_a_killed_run_goes_on_with_what_was_trained(ask, digits, trained, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compiler, "build", killed)
        with pytest.raises(KeyboardInterrupt):
            compiler.compile(asked(ask, out, digits))
    with monkeypatch.context() as patch:
        patch.setattr(allocator.Allocator, "after_step", killed)
        compiler.compile(asked(ask, out, digits))
    assert (out / "plan.json").read_text() == (trained[1] / "plan.json").read_text()


def test_what_cannot_be_trained_is_refused_before_anything_is_spent(ask, tmp_path):
    out = tmp_path / "out"
    b = Builder(0, (3, 12, 12))
    x = b.add("Shrink", [b.relu(b.conv("x", 32))], (32, 12, 12), lambd=0.05)
    strange = tmp_path / "strange.onnx"
    strange.write_bytes(b.model(pooled_head(b, x), classes=5).SerializeToString())
    with pytest.raises(UnsupportedModelError, match="no torch twin") as refused:
        hwprune.compile(ask(out, "0.6x", model=str(strange), search="dsa"))
    assert "--search" in refused.value.hint
    np.savez(tmp_path / "few.npz", x=np.zeros((40, 3, 12, 12), np.float32))
    with pytest.raises(DataError, match="12 training samples are too few"):
        hwprune.compile(ask(out, "0.6x", data=str(tmp_path / "few.npz"), search="dsa"))
    b = Builder(0, (3, 12, 12))
    fixed = tmp_path / "fixed.onnx"
    fixed.write_bytes(b.model(pooled_head(b, "x"), classes=5).SerializeToString())
    with pytest.raises(UsageError, match="nothing in this network can be pruned"):
        hwprune.compile(ask(out, "0.6x", model=str(fixed), search="dsa"))
    assert not out.exists()


class Noting(hwprune.progress.Silent):
    """Keeps the notes."""

    def __init__(self, notes):
        self.notes = notes

    def note(self, text):
        self.notes.append(text)


def test_the_recipe_takes_a_few_steps_at_least(ask, tmp_path):
    few = DataSet(torch.zeros(60, 1).numpy())
    options = ask(tmp_path, "0.5x", search="dsa")
    assert ratios.recipe_of(options, few).epochs > 5
    many = DataSet(torch.zeros(20000, 1).numpy())
    assert ratios.recipe_of(options, many).epochs == 1
    longer = ask(tmp_path, "0.5x", search="dsa", epochs=3)
    assert ratios.recipe_of(longer, many).epochs == 3
