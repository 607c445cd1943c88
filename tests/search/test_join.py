"""Several processes at one search: nothing is done twice, nothing is lost, whoever dies."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread

import optuna
import pytest

from hwprune.errors import StoreError
from hwprune.search.decode import Decoder
from hwprune.search.documents import task_from_json, task_to_json
from hwprune.search.storage import shown
from hwprune.search.strategy import Task
from hwprune.search.study import Shared, join, search

WORKER = """
import sys, time
import numpy as np
from hwprune.search.study import join
from hwprune.testing.problems import residual_chain

def evaluator(context):
    problem = residual_chain(*context["problem"])
    def evaluate(assignment):
        print("begun", flush=True)
        time.sleep(context["seconds"])
        return problem.estimated_loss(assignment, context["hidden"])
    return evaluate

print("made", join(sys.argv[1], sys.argv[2], evaluator, wait=float(sys.argv[3])), flush=True)
"""
PROBLEM = (6, 6, 0)
EVALUATIONS = 24


def worker(storage, name, wait):
    command = [sys.executable, "-c", WORKER, str(storage), name, str(wait)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def led(problem, budget, hidden, storage, seconds):
    """The search of this process, which others may join; each evaluation takes `seconds`."""
    context = {"problem": PROBLEM, "hidden": hidden, "seconds": seconds}

    def evaluate(assignment):
        time.sleep(seconds)
        return problem.estimated_loss(assignment, hidden)

    return search(
        problem, budget, evaluate, "random-weights", EVALUATIONS, 1, storage,
        shared=Shared("team", context),
    )  # fmt: skip


def check(result, storage):
    """Every evaluation once, and as many as were asked for."""
    texts = [json.dumps(e.assignment) for e in result.evaluated]
    assert len(texts) == len(set(texts)) == EVALUATIONS
    [study] = optuna.get_all_study_summaries(storage)
    assert study.user_attrs["closed"] == EVALUATIONS


def url(path):
    return f"sqlite:///{path}"


def test_four_processes_share_the_work(problem, budget, hidden, tmp_path):
    store = tmp_path / "trials.db"
    others = [worker(store, "team", 20) for _ in range(3)]
    result = led(problem, budget, hidden, store, 0.5)
    check(result, url(store))
    made = []
    for other in others:
        other.kill()
        begun = other.communicate()[0].count("begun")
        made.append(begun)
    assert sum(made) <= EVALUATIONS
    assert min(made) >= 1


def test_no_two_processes_do_the_same_however_fast_they_are(problem, budget, hidden, tmp_path):
    """They propose alike from a like history: nothing but the claims keeps them apart."""
    store = tmp_path / "trials.db"
    others = [worker(store, "team", 20) for _ in range(3)]
    time.sleep(3)  # they import
    result = led(problem, budget, hidden, store, 0.02)
    check(result, url(store))
    for other in others:
        other.kill()
    assert sum(other.communicate()[0].count("begun") for other in others) <= EVALUATIONS


def test_a_worker_that_is_killed_loses_its_own_trial_only(problem, budget, hidden, tmp_path):
    store = tmp_path / "trials.db"
    other = worker(store, "team", 60)

    def kill_once_it_works():
        other.stdout.readline()
        other.send_signal(signal.SIGKILL)
        other.wait()

    killer = Thread(target=kill_once_it_works)
    killer.start()
    result = led(problem, budget, hidden, store, 0.4)
    killer.join()
    check(result, url(store))
    states = [
        t.state.name for t in optuna.load_study(study_name="team-1", storage=url(store)).trials
    ]
    assert states.count("COMPLETE") == EVALUATIONS
    assert states.count("FAIL") >= 1


def test_what_others_are_at_counts_as_evaluated(problem, budget, hidden, tmp_path):
    """A trial claimed by another living process is neither proposed nor waited for in vain."""
    store = tmp_path / "trials.db"
    [first] = search(problem, budget, lambda _: 1.0, "bo", 1, 3, store).evaluated
    study = optuna.load_study(study_name="search-1", storage=url(store))
    claimed = search(problem, budget, lambda _: 2.0, "bo", 2, 3).evaluated[1].assignment
    attributes = {
        "worker": ["elsewhere", 1],
        "multipliers": "{}",
        "latency_ns": 1.0,
        "step": False,
        "assignment": json.dumps(claimed),
    }
    running = optuna.trial.TrialState.RUNNING
    study.add_trial(optuna.trial.create_trial(state=running, user_attrs=attributes))
    calls = []

    def evaluate(assignment):
        calls.append(assignment)
        if len(calls) == 2:
            study._storage.set_trial_user_attr(study.trials[1]._trial_id, "loss", 0.25)
            study.tell(1, 0.25)
        return 3.0

    found = search(problem, budget, evaluate, "bo", 4, 3, store)
    assert claimed not in calls
    assert len(calls) == 2
    assert len(found.evaluated) == 4
    assert found.best.assignment == claimed
    assert found.best.loss == 0.25
    assert first in found.evaluated


def test_a_task_survives_its_document_to_the_last_bit(problem, budget):
    task = Task(problem, Decoder(problem), budget, 7, ({"width:0": 0.1},), 33)
    again, strategy, enough = task_from_json(task_to_json(task, "bo", 1e-4))
    assert (strategy, enough) == ("bo", 1e-4)
    assert again.problem.digest() == problem.digest()
    assert again.decode({"width:0": 1.0}).assignment == task.decode({"width:0": 1.0}).assignment
    for name in ("budget_ns", "seed", "warm", "evaluations"):
        assert getattr(again, name) == getattr(task, name)


def test_processes_that_begin_together_all_get_in(tmp_path):
    store = tmp_path / "deep" / "trials.db"
    code = "import sys; from hwprune.search.storage import open_storage; open_storage(sys.argv[1])"
    begun = [subprocess.Popen([sys.executable, "-c", code, str(store)]) for _ in range(8)]
    assert [process.wait() for process in begun] == [0] * 8


def test_joining_what_never_was_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="no search named 'nobody'"):
        join(tmp_path / "trials.db", "nobody", lambda _: lambda _: 0.0, wait=0.0)


def test_an_address_is_shown_without_its_password():
    assert shown("postgresql://me:secret@host/trials") == "postgresql://me:***@host/trials"


@pytest.fixture(scope="module")
def postgres():
    """A server of its own on a socket in a folder of its own."""
    tools = find_postgres()
    if tools is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="no driver: pip install 'hwprune[postgres]'")
    with tempfile.TemporaryDirectory() as made:
        yield from served(tools, Path(made))


def served(tools, folder):
    """The address of a server on a socket in the folder, until the tests are done."""
    as_user = []
    if os.getuid() == 0:  # the server refuses to run as root
        if shutil.which("runuser") is None or "postgres" not in users():
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
        folder.chmod(0o755)
        shutil.chown(folder, "postgres")
    run = {"check": True, "capture_output": True, "cwd": folder}
    data = ["-D", folder / "data"]
    subprocess.run([*as_user, tools["initdb"], *data, "-A", "trust", "-U", "postgres"], **run)
    options = f"-c listen_addresses='' -k {folder}"
    control = [*as_user, tools["pg_ctl"], *data]
    subprocess.run([*control, "-w", "-o", options, "-l", folder / "log", "start"], **run)
    yield f"postgresql://postgres@/postgres?host={folder}"
    subprocess.run([*control, "-m", "immediate", "stop"], **run)


def users():
    """Names that this machine knows."""
    return {entry.pw_name for entry in pwd.getpwall()}


def find_postgres():
    """Paths of initdb and pg_ctl, which Debian keeps out of PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
    found = {name: shutil.which(name, path=path) for name in ("initdb", "pg_ctl")}
    return found if all(found.values()) else None


def test_four_processes_share_the_work_on_postgresql(problem, budget, hidden, postgres):
    others = [worker(postgres, "team", 20) for _ in range(3)]
    result = led(problem, budget, hidden, postgres, 0.5)
    check(result, postgres)
    for other in others:
        other.kill()
    assert min(other.communicate()[0].count("begun") for other in others) >= 1
