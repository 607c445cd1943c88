"""Names: the nearest match for an unknown one, and one list for all who take names."""

import pytest

from hwprune.errors import BackendError, UsageError
from hwprune.registry import (
    ADVICE,
    CHOSEN,
    METHODS,
    TRAINED,
    backend_names,
    get_backend,
    known_method,
    unknown,
)
from hwprune.target import Host


def test_the_nearest_name_is_offered_with_the_whole_list() -> None:
    error = unknown("target", "cpuu", ["null", "cpu"])
    assert error.message == "there is no target 'cpuu'"
    assert error.hint == "did you mean 'cpu'? known: cpu, null"


def test_a_name_like_no_other_gets_the_list_alone() -> None:
    assert unknown("target", "zzz", ["cpu"]).hint == "known: cpu"


def test_known_methods_pass_and_others_are_refused() -> None:
    assert known_method("search", "bo") == "bo"
    with pytest.raises(UsageError, match="no search 'bohb'"):
        known_method("search", "bohb")


def test_searches_are_those_that_search_knows() -> None:
    from hwprune.search.catalogue import STRATEGIES
    from hwprune.stages.options import JOINT

    assert set(METHODS["search"]) == {*STRATEGIES, *TRAINED, JOINT}
    assert not set(STRATEGIES) & {*TRAINED, JOINT}


@pytest.mark.parametrize("kind", ADVICE)
def test_every_method_says_what_it_needs_and_is_good_for(kind: str) -> None:
    assert list(ADVICE[kind]) == list(METHODS[kind])
    assert all(needs and good_for for needs, good_for in ADVICE[kind].values())


def test_criteria_are_those_that_prune_knows() -> None:
    from hwprune.pruning.criteria import CRITERIA

    assert set(METHODS["criterion"]) == set(CRITERIA)


def test_saliencies_are_those_that_prune_knows() -> None:
    from hwprune.pruning.calibrate import SALIENCIES

    assert set(METHODS["saliency"]) == set(SALIENCIES)


def test_sensitivities_are_those_that_the_search_knows() -> None:
    from hwprune.stages.losses import SENSITIVITIES

    assert set(METHODS["sensitivity"]) == set(SENSITIVITIES)


def test_efforts_are_those_that_the_compiler_knows() -> None:
    from hwprune.stages.options import EFFORTS

    assert set(METHODS["effort"]) == set(EFFORTS)


def test_quantisers_and_ranges_are_those_that_quantize_knows() -> None:
    from hwprune.quantize.catalogue import WEIGHTS
    from hwprune.quantize.ranges import RANGES

    assert set(CHOSEN["weight quantiser"]) == {name for name, _ in WEIGHTS}
    assert set(CHOSEN["activation range"]) == set(RANGES)


def test_targets_come_from_entry_points() -> None:
    assert {"cpu", "null"} <= set(backend_names())
    assert get_backend("null").name == "null"
    with pytest.raises(UsageError, match="no target 'nul'"):
        get_backend("nul")


def test_the_machine_and_the_options_reach_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwprune.backends.cpu.CpuBackend.missing", lambda _self: None)
    backend = get_backend("cpu@ssh:pi@edge", {"arena": "off"})
    assert backend.runtime_options["arena"] == "off"
    assert getattr(backend, "_host") == Host("edge", "pi")  # noqa: B009 - not in the protocol


def test_targets_without_options_or_other_machines_say_so() -> None:
    with pytest.raises(UsageError, match="'null' has no runtime options"):
        get_backend("null", {"arena": "off"})
    with pytest.raises(UsageError, match="'null' cannot be used on other machines"):
        get_backend("null@ssh:edge")
    assert get_backend("null", {}).runtime_options == {}


def test_two_packages_with_one_target_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    twice = [EntryPoint("npu", f"{package}:Npu", "hwprune.backends") for package in ("a", "b")]
    monkeypatch.setattr("hwprune.registry.entry_points", lambda group: twice)
    with pytest.raises(BackendError, match="a:Npu and b:Npu"):
        backend_names()


def test_a_target_that_misses_something_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwprune.backends.null.NullBackend.missing", lambda _self: "no clock")
    with pytest.raises(BackendError, match="cannot be used here: no clock"):
        get_backend("null")
