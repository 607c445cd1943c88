"""`inspect` and `verify` as text."""

import json

from hwprune.report import (
    Bounds,
    BranchInfo,
    GroupInfo,
    Inspection,
    Latency,
    Percentiles,
    VerifyResult,
)
from hwprune.report.lines import inspection_lines, verification_lines

GROUPS = (
    GroupInfo("conv1", 4, 4, 0.25, ("conv1",), ("conv2", "conv3", "conv4", "fc"), None, 0.5),
    GroupInfo("logits", 10, 1, 0.01, ("fc",), (), "it is an output of the network"),
)


def inspection(groups: tuple[GroupInfo, ...], branches: tuple[BranchInfo, ...]) -> Inspection:
    shapes = {"x": (1, 3, 32, 32)}
    return Inspection("net", "net.onnx", shapes, 12_500_000, 78_000, groups, branches)


GROUP = (
    "conv1: 16 channels, steps of 4, 25.0% of MACs, 50.0% of parameters, "
    "conv1 -> conv2, conv3, conv4 and 1 more"
)


def test_the_tree_lists_groups_branches_and_what_is_frozen() -> None:
    found = inspection(GROUPS, (BranchInfo("block1", ("conv2", "conv3"), 0.4),))
    assert list(inspection_lines(found)) == [
        "net (net.onnx): 12.5 M MACs, 78 k parameters, input x 1x3x32x32",
        "groups of coupled channels (1)",
        f"`- {GROUP}",
        "branches that may go whole (1)",
        "`- block1: 2 nodes, 40.0%",
        "frozen (1)",
        "`- logits: 10 channels, it is an output of the network",
    ]


def test_a_network_in_which_nothing_can_be_pruned_says_so() -> None:
    lines = list(inspection_lines(inspection(GROUPS[1:], ())))
    assert "nothing in this network can be pruned; it can still be quantised" in lines


def test_an_inspection_is_json_too() -> None:
    document = json.loads(inspection(GROUPS, ()).to_json())
    assert document["groups"][1]["frozen"] == "it is an output of the network"


def test_a_verification_ends_with_its_verdict() -> None:
    times = Latency(Percentiles(35.0, 40.0), Percentiles(9.6, 10.2), 9.3)
    result = VerifyResult("met", Bounds(10.0, "p90"), times, 0.00125, {"y": 31.25}, ("shared VM",))
    assert list(verification_lines(result)) == [
        "original: p50 35 ms, p90 40 ms",
        "compiled: p50 9.6 ms, p90 10.2 ms",
        "parity: largest difference 0.00125, y 31.2 dB",
        "warning: shared VM",
        "met: 10.2 ms of 10 ms at p90",
    ]
    assert result.exit_code == 0
