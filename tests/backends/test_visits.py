"""What the measuring process counts: runs that nobody disturbed, and how it says that none was."""

import json
import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hwprune.backends.cpu import CpuBackend, sessions, turns, visits
from hwprune.backends.cpu import backend as cpu
from hwprune.backends.cpu.chains import nothing


class Pace:
    """Beats as scripted; the pace is 100 ns."""

    usual = 100.0
    alone = visits.Pacemaker.alone

    def __init__(self, *beats: int) -> None:
        self.beats = list(beats)

    last = 0

    def beat(self) -> int:
        self.last = self.beats.pop(0) if len(self.beats) > 1 else self.beats[0]
        return self.last

    def wait(self) -> None:
        self.waits = getattr(self, "waits", 0) + 1


def visited(pace: Pace, times: int) -> visits.Visited:
    chain = visits.Visited(2, lambda: None)
    for _ in range(times):
        chain.visit(pace)
    return chain


def test_only_visits_next_to_an_undisturbed_beat_count():
    pace = Pace(100, 180, 119, 190, 121)
    chain = visited(pace, 5)
    assert chain.undisturbed(pace) == [chain.times[0], chain.times[2]]
    assert chain.counted(pace) == chain.undisturbed(pace)
    assert chain.done(2, pace)
    assert not chain.done(3, pace)
    assert chain.undisturbed(None) == chain.times


def test_a_beat_is_timed_with_the_caches_as_it_leaves_them_itself():
    runs = iter((0.02, 0.0) * 6)
    pace = pacemaker(lambda: time.sleep(next(runs)), usual=1e12)
    assert pace.beat() < 10_000_000


def pacemaker(call, usual):
    """A pacemaker that calls anything."""
    made = object.__new__(visits.Pacemaker)
    made._call, made.told, made.usual, made.patience_s = call, [], usual, 0.05
    return made


def test_who_is_disturbed_waits_until_nobody_is_there_but_not_for_ever(monkeypatch):
    given = iter([190, 180, 100, *[200] * 1000])
    monkeypatch.setattr(visits, "timed", lambda _: next(given))
    pace = pacemaker(lambda: None, usual=100.0)
    pace.wait()
    assert pace.last == 100
    pace.wait()
    assert pace.last == 200
    assert pace.patience_s <= 0
    pace.wait()
    assert next(given) == 200


def test_a_pace_that_was_told_beside_a_neighbour_is_mended(monkeypatch):
    beats = [150] * 8 + [100] * 5
    given = iter(beats)
    monkeypatch.setattr(visits, "timed", lambda _: next(given))
    pace = pacemaker(lambda: None, usual=150.0)
    chain = visits.Visited(2, lambda: None)
    chain.times, chain.beats = list(range(len(beats))), [pace.beat() for _ in beats]
    assert pace.usual == 100
    assert chain.undisturbed(pace) == [8, 9, 10, 11, 12]


def test_a_process_that_was_never_left_alone_says_so():
    pace = Pace(200)
    chain = visited(pace, 5)
    assert chain.undisturbed(pace) == []
    assert chain.counted(pace) == sorted(chain.times)[:2]
    chain.cpu, chain.wall = 1e-3, 1_000_000
    assert chain.share(pace, 1) == pytest.approx(0.5)
    assert chain.share(pace, 4) == pytest.approx(0.5)


def test_a_process_that_lacked_processor_time_says_so():
    chain = visited(Pace(100), 5)
    chain.cpu, chain.wall = 0.7e-3, 1_000_000
    assert chain.share(Pace(100), 1) == pytest.approx(0.7)
    assert chain.share(None, 2) == 1.0


def test_a_chain_that_is_always_disturbed_is_given_up():
    chain = visits.Visited(2, lambda: None)
    visits.visit_in_turns([chain], 12, Pace(200), random.Random(0))
    assert len(chain.times) == visits._PATIENCE


def test_a_long_chain_is_given_up_after_seconds():
    chain = visits.Visited(2, lambda: time.sleep(0.02))
    visits.visit_in_turns([chain], 12, Pace(200), random.Random(0))
    assert visits._LEAST_RUNS <= len(chain.times) < 20


@pytest.mark.ort
def test_what_the_runtime_refuses_is_reported_and_the_rest_goes_on():
    models = [nothing(), nothing(), b"no model", nothing()]
    weights = [[], [], [], []]
    found = {
        index: runs
        for index, runs, _ in visits.chains(models, weights, [1] * 4, threads=1, runs=4, seed=0)
    }
    assert found[2] == []
    assert len(found[3]) >= 2
    assert json.dumps(found)


@pytest.mark.ort
def test_runs_of_whole_files_are_told_apart_by_a_pacemaker_that_really_runs():
    backend = CpuBackend()
    (pacemaker,) = backend._chains([cpu._PACEMAKER])
    pace = next(ns for i, ns, _ in chains_alone(pacemaker) if i == 1)
    usual = sorted(pace)[0]
    models = [nothing(), pacemaker.model]
    for pace_ns, some in ((None, False), (1e12, True), (0.9 * usual / 1.2, False)):
        for _ in range(20 if some else 1):  # on a busy machine most are disturbed
            ((_, runs, alone, _),) = turns.files(models, 1, 0.05, 0, pace_ns)
            assert set(alone) <= set(runs)
            if alone:
                break
        assert bool(alone) == some


def chains_alone(pacemaker):
    models, weights = [nothing(), pacemaker.model], [[], pacemaker.weights]
    return visits.chains(models, weights, [1, 1], threads=1, runs=4, seed=0)


@pytest.mark.ort
def test_a_call_reads_inputs_that_are_still_there():
    """Values of the runtime's that nobody holds leave their arrays to whoever takes the memory."""
    seen = []

    class Session:
        def get_inputs(self):
            return [SimpleNamespace(name="x", type="tensor(float)", shape=[1, 3, 64, 64])]

        def get_outputs(self):
            return []

        def run(self, outputs, feeds):
            seen.append(float(feeds["x"].min()))
            seen.append(float(feeds["x"].max()))

    calls = [sessions.call_of(Session()) for _ in range(20)]
    taken = [np.full((1, 3, 64, 64), np.float32(1e-40)) for _ in range(50)]
    for call in calls:
        call()
    assert len(taken) == 50
    assert min(seen) >= 0.1
    assert max(seen) <= 1.0
