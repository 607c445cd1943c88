"""The state that the rules of all operators read and write while channels flow through a graph."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.ids import NONE, Channels, Ids


class Line(NamedTuple):
    """The one axis of a tensor along which channels lie, and the id at each of its positions."""

    axis: int
    ids: Ids


@dataclass(slots=True)
class Flow:
    """What is known so far: ids along activations (`lines`) and along weights (`attached`)."""

    channels: Channels = field(default_factory=Channels)
    lines: dict[str, Line] = field(default_factory=dict)
    attached: dict[tuple[str, int], Ids] = field(default_factory=dict)
    uses: dict[tuple[str, int], int] = field(default_factory=dict)
    producers: list[tuple[str, Ids]] = field(default_factory=list)
    consumers: list[tuple[str, Ids]] = field(default_factory=list)

    def line(self, tensor: gs.Tensor) -> Line | None:
        """Where the channels of `tensor` lie; None if it has none that could be removed."""
        return self.lines.get(tensor.name)

    def put(self, tensor: gs.Tensor, axis: int, ids: Ids) -> None:
        """Says where the channels of `tensor` lie."""
        if np.any(ids != NONE):
            self.lines[tensor.name] = Line(axis, ids)

    def attach(self, constant: gs.Constant, axis: int, ids: Ids) -> None:
        """Makes an axis of an initializer a member of the classes of `ids`."""
        key = (constant.name, axis)
        self.uses[key] = self.uses.get(key, 0) + 1
        known = self.attached.setdefault(key, ids)
        self.channels.unite(known, ids, f"initializer {constant.name!r} is shared")

    def refuse(self, node: gs.Node, why: str) -> None:
        """Freezes everything that `node` reads; its outputs have no channels."""
        for tensor in node.inputs:
            self.freeze(tensor, f"{label(node)} {why}")

    def freeze(self, tensor: gs.Tensor, reason: str) -> None:
        """Freezes the channels of one tensor."""
        line = self.line(tensor)
        if line is not None:
            self.channels.freeze(line.ids, reason)


Rule = Callable[[Flow, gs.Node], None]
RULES: dict[str, Rule] = {}


def rule(ops: str) -> Callable[[Rule], Rule]:
    """Registers the rule of one or several operators, separated by spaces."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops.split(), function))
        return function

    return register


def label(node: gs.Node) -> str:
    """How messages call a node."""
    return f"{node.op} {node.name!r}"


def constant(tensor: gs.Tensor | None) -> list[int] | None:
    """The values of an integer constant, or None if it is no constant."""
    if isinstance(tensor, gs.Constant):
        return [int(value) for value in np.ravel(tensor.values)]
    return None
