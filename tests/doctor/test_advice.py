"""Facts of a machine, and what is said about them."""

from dataclasses import replace

import pytest

from hwprune.backend import Identity
from hwprune.doctor import Need, TargetState
from hwprune.doctor.advice import Advice, installation_advice, noise_advice, ordered, target_advice
from hwprune.doctor.checkup import Checkup, TableState
from hwprune.doctor.noise import Noise


def said(found: Checkup) -> list[Advice]:
    return [a for a in target_advice(found) if a.level != "good"]


def test_nothing_is_wrong_with_a_steady_server(server: Checkup) -> None:
    assert said(server) == []
    good = [a.what for a in target_advice(server)]
    assert good == [
        "8-bit products are exact and fast here (vnni)",
        "the machine is steady: times move by 1.0%",
    ]


@pytest.mark.parametrize(
    ("condition", "level", "what", "todo"),
    [
        ({"governor": "powersave"}, "note", "governor powersave", "cpupower"),
        ({"governor": "unknown"}, "note", "cannot be read", "in turns"),
        ({"turbo": "on"}, "note", "turbo", "leave it on"),
        ({"temperature_c": "91"}, "note", "91 degrees", "cool down"),
        ({"quota_cpus": "1.5"}, "warning", "1.5 CPUs, but the runtime starts 4", "--threads 1,"),
        ({"quota_cpus": "0.5"}, "warning", "0.5 CPUs", "--threads 1,"),
        ({"load": "6.5"}, "note", "load 6.5 on 8 cores, 4 threads", "stop it"),
        ({"hypervisor": "xen"}, "note", "virtual machine (xen)", "0.4x"),
        ({"hypervisor": "yes"}, "note", "virtual machine: its", "0.4x"),
        ({"power": "battery"}, "warning", "battery", "plug it in"),
    ],
)
def test_each_condition_that_matters_is_explained(
    condition: dict[str, str], level: str, what: str, todo: str, server: Checkup
) -> None:
    (advice,) = said(replace(server, conditions={**server.conditions, **condition}))
    assert advice.level == level
    assert what in advice.what
    assert todo in advice.todo


@pytest.mark.parametrize(
    "condition",
    [{"quota_cpus": "4"}, {"load": "3"}, {"load": "unknown"}, {"temperature_c": "unknown"}],
)
def test_what_does_no_harm_is_not_mentioned(condition: dict[str, str], server: Checkup) -> None:
    assert said(replace(server, conditions={**server.conditions, **condition})) == []


def test_a_target_without_facts_gets_no_advice_made_up(server: Checkup) -> None:
    bare = replace(server, identity=Identity("npu", "x", "y", {}), conditions={}, noise=None)
    assert [a.todo for a in said(bare)] == ["leave out --quick"]


def test_saturating_products_cost_a_bit(server: Checkup) -> None:
    details = {**server.identity.details, "int8": "saturating", "simd": "avx avx2 fma"}
    old = replace(server, identity=replace(server.identity, details=details), weight_bits=7)
    (advice,) = said(old)
    assert "avx2, no VNNI" in advice.what
    assert "7 bits" in advice.what


def test_products_without_instructions_of_their_own(server: Checkup) -> None:
    details = {**server.identity.details, "int8": "widening"}
    (advice,) = said(replace(server, identity=replace(server.identity, details=details)))
    assert "widening" in advice.what


def test_the_latency_table(server: Checkup) -> None:
    (empty,) = said(replace(server, table=TableState("latency.db", 0)))
    assert "first compile measures" in empty.what
    (broken,) = said(replace(server, table=TableState("", 0, "no home")))
    assert (broken.level, "no home" in broken.what) == ("warning", True)


def test_a_noisy_machine_says_which_budgets_are_in_doubt(steady: Noise) -> None:
    doubt, *_ = noise_advice(replace(steady, spread=0.16, twins=0.08))
    assert doubt.level == "warning"
    assert "within 16.0% of the measured time" in doubt.what
    assert "ratios (0.4x) within 8.0%" in doubt.what


def test_interference_is_named(steady: Noise) -> None:
    hindered = replace(steady, cpu_share=0.64, p99=3.1, throttled=2.0, stolen_s=0.4)
    words = " ".join(a.what for a in noise_advice(hindered))
    for part in ("64% of the time", "3.1 times", "by heat", "0.4 s to others"):
        assert part in words


def test_what_to_install() -> None:
    needs = [
        Need("python", "3.10.1", ">=3.11", False),
        Need("numpy", "2.0", ">=1.26", True),
        Need("onnx", None, ">=1.21", False),
        Need("protobuf", "5.29.5", "~=5.29.6 or >=6.33.5", False),
    ]
    targets = [TargetState("cpu", False, "onnxruntime is not installed: pip install onnxruntime")]
    python, onnx, protobuf, cpu = installation_advice(needs, targets)
    assert "newer Python" in python.todo
    assert onnx.todo == "pip install 'onnx>=1.21'"
    assert protobuf.todo == "pip install 'protobuf>=6.33.5'"
    assert "5.29.5 is installed" in protobuf.what
    assert "pip install onnxruntime" in cpu.what


def test_warnings_come_first() -> None:
    levels = [
        a.level for a in ordered([Advice("good", ""), Advice("note", ""), Advice("warning", "")])
    ]
    assert levels == ["warning", "note", "good"]
