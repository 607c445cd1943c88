"""The machine and the runtime's options: given to the backend, recorded, and used again."""

import pytest
from hwprune.backends.null import NullBackend

import hwprune
from hwprune import compiler
from hwprune.errors import UsageError
from hwprune.stages.checkpoints import inputs_digest
from hwprune.target import Host

MADE = []


class Settable(NullBackend):
    """A null target on any machine, with one option."""

    def __init__(self, host=None, options=None):
        super().__init__()
        self.runtime_options = {"clock": "fast"} | (options or {})
        MADE.append((host, self.runtime_options))

    def session_options(self, threads):
        return {"num_threads": str(threads)}


@pytest.fixture
def settable(monkeypatch):
    MADE.clear()
    monkeypatch.setattr("hwprune.backends.null.NullBackend", Settable)


def test_they_are_in_the_report_and_verify_takes_them_from_there(ask, tmp_path, settable):
    out, edge = tmp_path / "out", Host("edge", "pi")
    options = ask(out, "0.4x", target="null@ssh:pi@edge", runtime={"clock": "slow"}, threads=2)
    target = hwprune.compile(options).target
    assert (target.name, target.threads, target.batch) == ("null@ssh:pi@edge", 2, 1)
    assert target.runtime_options == {"clock": "slow"}
    assert target.session_options == {"num_threads": "2"}
    assert [(edge, {"clock": "slow"})] == MADE
    compiler.verify(out)
    assert MADE[1:] == [(edge, {"clock": "slow"})]
    compiler.verify(out, target="null")
    assert MADE[2:] == [(None, {"clock": "slow"})]


def test_other_options_are_another_run(ask, tmp_path):
    usual, other = (ask(tmp_path, "0.4x", runtime=r) for r in ({}, {"clock": "slow"}))
    assert inputs_digest(usual) != inputs_digest(other)


def test_a_target_without_options_refuses_them(ask, tmp_path):
    with pytest.raises(UsageError, match="has no runtime options"):
        hwprune.compile(ask(tmp_path / "out", "0.4x", runtime={"clock": "slow"}))
