import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities
from hwprune.quantize.placement import Placement, nonnegative, place
from hwprune.testing.networks import build, dense, flat_head, residual


def ops(graph: gs.Graph, placement: Placement) -> list[str]:
    return [node.op for node in graph.nodes if node.name in placement.nodes]


def everything(graph: gs.Graph) -> dict[str, str]:
    return {node.name: "int8" for node in graph.nodes}


def test_relus_behind_int8_nodes_are_folded(capabilities: Capabilities) -> None:
    graph = build(residual)
    placement = place(graph, everything(graph), capabilities)
    relus = {node.name for node in graph.nodes if node.op == "Relu"}
    assert set(placement.folded.values()) == relus
    assert "Relu" not in ops(graph, placement)


def test_only_the_input_is_read_from_fp32(capabilities: Capabilities) -> None:
    graph = build(residual)
    placement = place(graph, everything(graph), capabilities)
    assert placement.read == ("x",)


def test_passthrough_has_the_encoding_of_its_input(capabilities: Capabilities) -> None:
    graph = build(residual)
    placement = place(graph, everything(graph), capabilities)
    flatten = next(node for node in graph.nodes if node.op == "Flatten")
    assert placement.root(flatten.outputs[0].name) == flatten.inputs[0].name
    assert flatten.outputs[0].name not in placement.encoded


def test_nodes_left_out_run_fp32(capabilities: Capabilities) -> None:
    graph = build(residual)
    assert place(graph, {}, capabilities) == Placement(frozenset(), {}, {}, ())


def test_what_the_target_cannot_do_stays_fp32(capabilities: Capabilities) -> None:
    graph = build(dense, head=flat_head)
    found = ops(graph, place(graph, everything(graph), capabilities))
    assert "BatchNormalization" not in found
    assert "Add" not in found  # its second operand is a constant row
    assert {"Conv", "Concat", "MatMul", "Gemm"} <= set(found)


def test_signs_follow_the_operators() -> None:
    graph = build(residual)
    found = nonnegative(graph)
    for node in graph.nodes:
        expected = node.op in ("Relu", "GlobalAveragePool", "Flatten")
        assert (node.outputs[0].name in found) == expected
