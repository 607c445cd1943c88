"""The process that measures: what it is sent and answers, and that nothing of it is left behind."""

import ast
import itertools
import os
import signal
import subprocess
import sys
import threading

import pytest
from hwprune.backends.cpu import child

from hwprune.errors import BackendError, StoreError
from hwprune.target import Host


def of(agent: str) -> child.Sources:
    return [("agent", agent)]


@pytest.fixture(params=["here", "over ssh"])
def place(request: pytest.FixtureRequest) -> Host | None:
    """This machine, directly and over ssh: the same must hold for both."""
    return request.getfixturevalue("sshd") if request.param == "over ssh" else None


def test_request_and_models_arrive_and_answers_come_back(place, echo):
    models = [b"a" + bytes(3_000_000) + b"z", b"", b"\n{}"]
    first, second, third, request = child.ask(echo, {"task": "echo"}, 20, models, place)
    assert (first, second, third) == ([3_000_002, "a", "z"], [0, "", ""], [3, "\n", "}"])
    assert request == {"task": "echo", "models": [3_000_002, 0, 3]}


def test_sources_import_one_another_and_stand_alone(place):
    agent = (
        "import json, sys\nfrom inner import part\nfrom inner.part import two\n"
        "def main(): print(json.dumps([part.two + two, '' in sys.path]))"
    )
    sources = [("inner.part", "two = 2"), ("inner.agent", agent)]
    assert list(child.ask(sources, {}, 20, (), place)) == [[4, False]]


def test_answers_come_one_by_one_and_whoever_stops_takes_the_process_along(place, stays, gone):
    answers = child.ask(stays, {}, 60, (), place)
    pid, folder = next(answers)
    assert os.path.exists(f"{folder}/trace")
    answers.close()
    assert gone(pid, folder)


def test_a_process_that_hangs_is_ended(place, stays, gone):
    answers = child.ask(stays, {}, 0.5, (), place)
    pid, folder = next(answers)
    with pytest.raises(BackendError, match="no answer from"):
        next(answers)
    assert gone(pid, folder)


def test_a_crash_is_reported_with_what_was_printed_and_cleaned_up(place, stays, gone):
    text = stays[0][1]
    crash = of(text.replace("time.sleep(600)", "os.write(2, b'it said no'); os.abort()"))
    answers = child.ask(crash, {}, 20, (), place)
    pid, folder = next(answers)
    with pytest.raises(BackendError, match="was ended by SIGABRT: it said no"):
        next(answers)
    assert gone(pid, folder)


def test_an_exception_is_reported_by_its_last_line(place):
    agent = "def main(): raise RuntimeError('refused')"
    with pytest.raises(BackendError, match=r"failed with status 1: RuntimeError: refused$"):
        list(child.ask(of(agent), {}, 20, (), place))


@pytest.mark.parametrize("package", ["numpy", "onnxruntime"])
def test_a_missing_package_is_named_with_how_to_install_it(place, package):
    agent = f"raise ModuleNotFoundError({f'No module named {package!r}'!r})"
    with pytest.raises(BackendError, match=f"has no {package}") as caught:
        list(child.ask(of(agent), {}, 20, (), place))
    assert caught.value.hint.endswith("-m pip install numpy onnxruntime")


def test_nonsense_is_reported():
    agent = "import sys\ndef main(): print('not json', flush=True)"
    with pytest.raises(BackendError, match="answered nonsense"):
        list(child.ask(of(agent), {}, 20))


def test_a_caller_that_is_killed_leaves_nothing_behind(place, stays, gone):
    code = (
        "import sys\nfrom hwprune.backends.cpu import child\nfrom hwprune.target import Host\n"
        f"for answer in child.ask({stays!r}, {{}}, 60, (), {place!r}):\n"
        "    print(*answer, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE) as caller:
        assert caller.stdout
        pid, folder = caller.stdout.readline().decode().split()
        caller.send_signal(signal.SIGKILL)
    assert gone(int(pid), folder)


def test_two_never_measure_at_once():
    agent = (
        "import sys, time\ndef main():\n begin = time.monotonic(); time.sleep(0.3)\n"
        " print([begin, time.monotonic()], flush=True)"
    )
    spans: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda: spans.extend(child.ask(of(agent), {}, 20)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans.sort()
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert len(spans) == 3


def test_waiting_for_the_machine_ends(monkeypatch, echo, stays):
    holder = child.ask(stays, {}, 60)
    next(holder)
    monkeypatch.setattr(child, "_WAIT_S", 0.1)
    with pytest.raises(StoreError, match="another measurement has held this machine"):
        list(child.ask(echo, {}, 20))
    assert len(list(child.ask(echo, {}, 20, alone=False))) == 1
    holder.close()


def test_a_module_beside_the_caller_is_not_taken_for_ours(monkeypatch, tmp_path, echo):
    (tmp_path / "json.py").write_text("raise RuntimeError('not ours')")
    monkeypatch.chdir(tmp_path)
    assert len(list(child.ask(echo, {}, 20))) == 1


@pytest.mark.parametrize(
    "name", ["bootstrap", "facts", "describe", "sessions", "turns", "visits", "agent"]
)
def test_what_is_sent_runs_on_old_pythons(name):
    ((_, text),) = child.sources(name)
    assert ast.parse(text, feature_version=(3, 8)).body
