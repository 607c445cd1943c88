"""The runtime's options: which there are, what they change, and that sessions get them."""

import pytest
from hwprune.backends.cpu import CpuBackend
from hwprune.backends.cpu.options import RuntimeOptions

from hwprune.errors import UsageError


def test_the_defaults_are_the_runtimes_own():
    assert RuntimeOptions.read({}).session_options() == {}
    assert RuntimeOptions.read({}).texts() == {"arena": "on", "spinning": "on", "graph": "all"}


@pytest.mark.parametrize(
    ("given", "asked", "session"),
    [
        ({"arena": "off"}, ("arena", False), ("enable_cpu_mem_arena", "False")),
        ({"spinning": "off"}, ("spinning", False), ("session.intra_op.allow_spinning", "0")),
        ({"graph": "basic"}, ("graph", "basic"), ("graph_optimization_level", "ORT_ENABLE_BASIC")),
        (
            {"graph": "disable"},
            ("graph", "disable"),
            ("graph_optimization_level", "ORT_DISABLE_ALL"),
        ),
    ],
)
def test_each_option_is_asked_for_and_told_in_the_runtimes_words(given, asked, session):
    options = RuntimeOptions.read(given)
    assert asked in options.request().items()
    assert dict([session]) == options.session_options()
    assert RuntimeOptions.read(options.texts()) == options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"arena": "yes"}, "no arena=yes"),
        ({"graph": "on"}, "no graph=on"),
        ({"mimalloc": "on"}, "no option 'mimalloc'"),
    ],
)
def test_others_are_refused_with_those_there_are(given, said):
    with pytest.raises(UsageError, match=said) as caught:
        CpuBackend(options=given)
    assert caught.value.hint.startswith("known: arena=on|off, spinning=on|off, graph=all|")


def test_options_are_part_of_the_identity():
    usual, other = CpuBackend(), CpuBackend(options={"spinning": "off"})
    assert usual.identity() != other.identity()
    assert other.identity().details["spinning"] == "off"
    assert other.session_options(2) == {
        "intra_op_num_threads": "2",
        "session.intra_op.allow_spinning": "0",
    }
