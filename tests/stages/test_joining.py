"""A compile whose search others join, through the command line, and what they are refused for."""

import json
import subprocess
import sys

import numpy as np
import optuna
import pytest

import hwprune
from hwprune.errors import UsageError
from hwprune.stages.joining import objective

JOIN = "from hwprune.cli import main; import sys; sys.exit(main())"


@pytest.mark.slow
def test_a_worker_takes_its_part_and_the_result_is_whole(ask, tmp_path):
    store = tmp_path / "trials.db"
    command = [sys.executable, "-c", JOIN, "search", "--join", "team", "--storage", str(store)]
    worker = subprocess.Popen([*command, "--wait", "12"], stdout=subprocess.PIPE, text=True)
    asked = ask(tmp_path / "out", "0.15x", evaluations=20, storage=str(store), study="team")
    report = hwprune.compile(asked)
    out, _ = worker.communicate(timeout=90)
    made = int(out.split()[0])
    assert worker.returncode == 0
    assert report.verdict == "met"
    assert made > 0
    states = [t.state.name for s in studies(store) for t in s.trials]
    assert made < states.count("COMPLETE")
    for study in studies(store):
        complete = [t for t in study.trials if t.state.name == "COMPLETE"]
        assert len({t.user_attrs["assignment"] for t in complete}) == len(complete)


def studies(store):
    url = f"sqlite:///{store}"
    names = optuna.get_all_study_names(url)
    return [optuna.load_study(study_name=n, storage=url) for n in names]


@pytest.fixture(scope="module")
def context(ask, tmp_path_factory):
    """What a compile tells others, and the losses it has measured."""
    folder = tmp_path_factory.mktemp("told")
    asked = ask(folder / "out", "0.2x", storage=str(folder / "trials.db"))
    hwprune.compile(asked)
    return studies(folder / "trials.db")[0]


def test_the_loss_measured_elsewhere_is_the_same(context):
    trial = next(t for t in context.trials if t.state.name == "COMPLETE")
    evaluate = objective(context.user_attrs["context"], None, None)
    assert evaluate(json.loads(trial.user_attrs["assignment"])) == trial.value


def test_other_data_and_other_models_are_refused(context, tmp_path):
    told = context.user_attrs["context"]
    other = tmp_path / "other.npz"
    np.savez(other, x=np.random.default_rng(9).standard_normal((200, 3, 12, 12), np.float32))
    with pytest.raises(UsageError, match="the data here differs"):
        objective(told, None, str(other))
    with pytest.raises(UsageError, match="the target here differs"):
        objective({**told, "same": {**told["same"], "target": "else"}}, None, None)


def test_an_output_folder_without_trials_is_named(tmp_path):
    command = [sys.executable, "-c", JOIN, "search", "--join", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "no output folder with trials" in found.stderr
