"""A run that was killed goes on; a folder is never overwritten unasked."""

import hashlib

import pytest

import hwprune
from hwprune import compiler
from hwprune.errors import StoreError
from hwprune.stages import fitting, losses, profiling, searching

BUDGET = "0.3x"


@pytest.fixture(scope="module")
def finished(ask, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    return hwprune.compile(ask(out, BUDGET)), out


def contents(out):
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.iterdir() if p.is_file()
    }


def test_a_finished_run_is_not_done_again(ask, finished, monkeypatch):
    report, out = finished
    before = contents(out)

    def refuse(*_):
        raise AssertionError("this was done already")

    monkeypatch.setattr(compiler, "profile", refuse)
    assert hwprune.compile(ask(out, BUDGET)) == report
    assert contents(out) == before


def test_a_killed_run_resumes_to_the_same_plan(ask, finished, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "build", killed)
        with pytest.raises(KeyboardInterrupt):
            hwprune.compile(ask(out, BUDGET))
    assert not (out / "report.json").exists()
    assert not (out / "model.onnx").exists()
    with monkeypatch.context() as patch:
        patch.setattr(losses, "measure_losses", killed)
        patch.setattr(profiling, "time_each", killed)
        report = hwprune.compile(ask(out, BUDGET))
    resumed = {stage.name for stage in report.stages if stage.resumed}
    assert resumed == {"rewrite", "profile", "sensitivity"}
    plan = (finished[1] / "plan.json").read_text()
    assert (out / "plan.json").read_text() == plan


def test_a_search_that_was_killed_evaluates_nothing_twice(ask, tmp_path, monkeypatch):
    seen = []
    real = searching.candidate_loss

    def counted(*given):
        evaluate = real(*given)

        def count(assignment):
            if len(seen) == 2 and (2, "killed") not in seen:
                seen.append((2, "killed"))
                killed()
            seen.append(assignment)
            return evaluate(assignment)

        return count

    monkeypatch.setattr(searching, "candidate_loss", counted)
    # Finalists are judged once more on purpose, by another repair: that is not the search.
    monkeypatch.setattr(fitting, "finalists", best_of_search)
    options = ask(tmp_path / "out", BUDGET)
    with pytest.raises(KeyboardInterrupt):
        hwprune.compile(options)
    hwprune.compile(options)
    found = [sorted(a.items()) for a in seen if isinstance(a, dict)]
    assert len(found) > 2
    assert len(found) == len({str(a) for a in found})


def best_of_search(run, losses, result):
    return [(result.best.assignment, result.best.loss)]


def killed(*_):
    raise KeyboardInterrupt


def test_other_options_are_refused_and_force_replaces(ask, finished, tmp_path):
    out = tmp_path / "out"
    hwprune.compile(ask(out, "0.9x", search="knapsack"))
    with pytest.raises(StoreError, match="another run") as caught:
        hwprune.compile(ask(out, "0.8x", search="knapsack"))
    assert caught.value.exit_code == 7
    assert "--force" in caught.value.hint
    report = hwprune.compile(ask(out, "0.8x", search="knapsack", force=True))
    assert report.budget.latency_ms == pytest.approx(0.8 * report.latency_ms.original.p50)
    assert hwprune.Report.from_json((out / "report.json").read_text()) == report


def test_a_folder_of_somebody_else_is_refused(ask, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(StoreError, match="holds no run of hwprune") as caught:
        hwprune.compile(ask(tmp_path, BUDGET))
    assert "--out" in caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_in_place_of_the_folder_is_refused(ask, tmp_path):
    (tmp_path / "out").write_text("dear")
    with pytest.raises(StoreError, match="is a file"):
        hwprune.compile(ask(tmp_path / "out", BUDGET))


def test_a_model_that_changed_is_another_run(ask, network, tmp_path):
    model = tmp_path / "net.onnx"
    model.write_bytes(network.read_bytes())
    options = ask(tmp_path / "out", "0.9x", model=str(model), search="knapsack")
    hwprune.compile(options)
    model.write_bytes(network.read_bytes() + b"\x08\x08")  # ir_version, once more
    with pytest.raises(StoreError, match="another run"):
        hwprune.compile(options)
