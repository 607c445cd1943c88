"""The state that the rules of all operators read and write while channels flow through a graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.ids import NONE, Channels, Ids

Lines = Mapping[int, Ids]  # axis -> ids at each of its positions


@dataclass(slots=True)
class Flow:
    """What is known so far: ids along activations (`lines`) and along weights (`attached`)."""

    channels: Channels = field(default_factory=Channels)
    lines: dict[str, Lines] = field(default_factory=dict)
    attached: dict[tuple[str, int], Ids] = field(default_factory=dict)
    uses: dict[tuple[str, int], int] = field(default_factory=dict)
    producers: list[tuple[str, Ids]] = field(default_factory=list)
    consumers: list[tuple[str, Ids]] = field(default_factory=list)

    def of(self, tensor: gs.Tensor) -> Lines:
        """The axes of `tensor` that something could be removed from."""
        return self.lines.get(tensor.name, {})

    def along(self, tensor: gs.Tensor, axis: int) -> Ids:
        """The ids along one axis; NONE where nothing can go."""
        ids = self.of(tensor).get(axis)
        return np.full((int(tensor.shape[axis]), 1), NONE) if ids is None else ids

    def put(self, tensor: gs.Tensor, lines: Lines) -> None:
        """Says which axes of `tensor` something could be removed from."""
        found = {axis: ids for axis, ids in lines.items() if np.any(ids != NONE)}
        if found:
            self.lines[tensor.name] = found

    def attach(self, constant: gs.Constant, axis: int, ids: Ids) -> None:
        """Makes an axis of an initializer a member of the classes of `ids`."""
        key = (constant.name, axis)
        self.uses[key] = self.uses.get(key, 0) + 1
        known = self.attached.setdefault(key, ids)
        if known is not ids:
            self.channels.unite(known, ids, f"initializer {constant.name!r} is shared")

    def refuse(self, node: gs.Node, why: str) -> None:
        """Freezes everything that `node` reads; its outputs have no channels."""
        for tensor in node.inputs:
            self.freeze(tensor, f"{label(node)} {why}")

    def freeze(self, tensor: gs.Tensor, reason: str) -> None:
        """Freezes the channels along all axes of one tensor."""
        for ids in self.of(tensor).values():
            self.channels.freeze(ids, reason)

    def keep(self, node: gs.Node, lines: Lines, stays: Callable[[int], bool], why: str) -> Lines:
        """The lines whose axis `stays`; the others are frozen, since `node` does `why`."""
        for axis, ids in lines.items():
            if not stays(axis):
                self.channels.freeze(ids, f"{label(node)} {why}")
        return {axis: ids for axis, ids in lines.items() if stays(axis)}


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
