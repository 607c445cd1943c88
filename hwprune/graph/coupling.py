"""Which channels can only be removed together: one pass of the rules over the graph.

Every operator with weights makes fresh channel ids; the rule of every other operator says how ids
travel. What union-find puts into one class must go together (design: D3).
"""

from collections.abc import Iterable

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph import elementwise, layers, movement, recurrent, reduction  # noqa: F401 (rules)
from hwprune.graph.branches import find_branches
from hwprune.graph.channels import Coupling
from hwprune.graph.flow import RULES, Flow, label
from hwprune.graph.groups import axis_widths, classify, form_groups, layouts
from hwprune.graph.proto import guarded


def couple(graph: gs.Graph) -> Coupling:
    """Analyses a canonical graph: groups, removable branches, and shapes as functions of widths.

    Raises ModelError for a node that contradicts its own shapes.
    """
    flow = _flow(graph)
    classes = classify(flow)
    groups = form_groups(flow, classes)
    return Coupling(
        groups=groups,
        branches=find_branches(graph),
        shapes=axis_widths(graph, classes, groups),
        full={group.name: group.width for group in groups},
        layouts=layouts(flow, classes),
    )


def _flow(graph: gs.Graph) -> Flow:
    flow = Flow()
    for node in graph.nodes:
        apply = RULES.get(node.op)
        if apply is None:
            flow.refuse(node, "has no pruning rule")
        else:
            with guarded(f"analysing {label(node)}"):  # e.g. a Gather out of range
                apply(flow, node)
    for tensor in graph.outputs:
        flow.freeze(tensor, f"graph output {tensor.name!r}")
    _freeze_shared(flow, graph)
    return flow


def _freeze_shared(flow: Flow, graph: gs.Graph) -> None:
    """An initializer that one reader cuts and another does not must stay whole."""
    readers = {
        tensor.name: sum(t is tensor for node in _once(tensor.outputs) for t in node.inputs)
        for tensor in graph.tensors().values()
        if len(tensor.outputs) > 1
    }
    for (name, axis), count in flow.uses.items():
        ids = flow.attached[name, axis]
        if name in readers and count != readers[name]:
            flow.channels.freeze(np.asarray(ids), f"initializer {name!r} is shared")


def _once(nodes: Iterable[gs.Node]) -> list[gs.Node]:
    """A node stands among a tensor's readers as often as it reads the tensor."""
    return list({id(node): node for node in nodes}.values())
