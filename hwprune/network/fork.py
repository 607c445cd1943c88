"""Variants of one network that are run only from where they begin to differ from it.

What a variant leaves as it was has the original's values: they are computed once, and each variant
branches off as soon as all that it reads of them is known.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from hwprune.network.run import Inputs

Values = dict[str, Tensor]  # of tensors, by their ONNX names


class Tail:
    """The part of a variant that has to be run: `changed` nodes and all that depends on them.

    `needs` are the tensors that it reads of the rest; they have the same names in the original.
    """

    def __init__(self, module: fx.GraphModule, changed: Collection[str]) -> None:
        """`changed` names ONNX nodes of the variant's twin `module`."""
        run: set[fx.Node] = set()
        for node in module.graph.nodes:
            follows = any(source in run for source in node.all_input_nodes)
            if follows or node.op == "output" or node.meta["node"] in changed:
                run.add(node)
        self._known = [n for n in module.graph.nodes if n not in run and n.op != "get_attr"]
        read = {source for node in run for source in node.all_input_nodes}
        self.needs = frozenset(n.meta["tensor"] for n in self._known if n in read)

    def run(self, interpreter: fx.Interpreter, values: Values) -> tuple[Tensor, ...]:
        """The variant's outputs; `interpreter` runs its twin."""
        known = {node: values.get(node.meta["tensor"]) for node in self._known}
        result = interpreter.run(initial_env=known)
        return result if isinstance(result, tuple) else (result,)

    def answers(self, interpreter: fx.Interpreter, batches: Sequence[Values]) -> list[Tensor]:
        """As `run` over several batches, the outputs joined along the first axis."""
        parts = [self.run(interpreter, values) for values in batches]
        return [torch.cat(column) for column in zip(*parts, strict=True)]


@torch.no_grad()
def fork(
    original: fx.GraphModule, inputs: Sequence[Inputs], needs: Sequence[Collection[str]]
) -> Iterator[tuple[int, list[Values]]]:
    """Runs the original over each of `inputs`; yields where variants branch off.

    Args:
        original: Twin.
        inputs: Batches, which walk side by side.
        needs: Per variant, the tensors it waits for (`Tail.needs`).

    Yields:
        The index of a variant and, per input, the values of what it needs; each variant once, in
        the order in which they can be run. Nothing is kept for longer than somebody needs it.
    """
    walks = [_Walk(original, x) for x in inputs]
    missing = {index: set(names) for index, names in enumerate(needs)}
    held: dict[str, list[Tensor]] = {}
    for node in original.graph.nodes:
        values = [walk.step(node) for walk in walks]
        tensor = node.meta["tensor"]
        if any(tensor in names for names in missing.values()):
            held[tensor] = values
        for index in [i for i, names in missing.items() if tensor in names]:
            missing[index].remove(tensor)
            if not missing[index]:
                del missing[index]
                yield index, [{n: held[n][i] for n in needs[index]} for i in range(len(walks))]
        waited = set().union(*(needs[index] for index in missing))
        held = {name: value for name, value in held.items() if name in waited}


class _Walk(fx.Interpreter):
    """One pass over the original, a node at a time."""

    def __init__(self, module: fx.GraphModule, x: Inputs) -> None:
        super().__init__(module)
        self.env = {}
        self.args_iter = iter(x)

    def step(self, node: fx.Node) -> Any:
        value = self.env[node] = self.run_node(node)
        for done in self.user_to_last_uses.get(node, ()):
            del self.env[done]
        return value
