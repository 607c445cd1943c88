"""What all rewrites share: they work on a copy, and ask who reads what."""

from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.read import clone

Edit = Callable[[gs.Graph], None]
Rewriting = Callable[[gs.Graph], gs.Graph]


def on_a_copy(edit: Edit) -> Rewriting:
    """Makes an edit in place a function from graph to graph, which leaves its argument unchanged.

    What nobody reads any more is gone from the result, which is in topological order.
    """

    @wraps(edit)
    def rewritten(graph: gs.Graph) -> gs.Graph:
        result = clone(graph)
        edit(result)
        return result.cleanup().toposort()

    return rewritten


def leaves(tensor: gs.Tensor, graph: gs.Graph) -> bool:
    """Whether it is an output of the graph."""
    return any(tensor is output for output in graph.outputs)


def producer(tensor: gs.Tensor) -> gs.Node | None:
    """The node that computes it, if one does."""
    return tensor.inputs[0] if tensor.inputs else None


def only_reader(tensor: gs.Tensor, graph: gs.Graph) -> gs.Node | None:
    """The node that alone reads it, and reads it once; None where it is an output, too."""
    return None if leaves(tensor, graph) or len(tensor.outputs) != 1 else tensor.outputs[0]


def reads_alone(node: gs.Node, tensor: gs.Tensor, graph: gs.Graph) -> bool:
    """Whether nobody but `node` reads the tensor, and it once."""
    return not leaves(tensor, graph) and [id(n) for n in tensor.outputs] == [id(node)]


def is_constant(tensor: gs.Tensor) -> bool:
    """Whether its values are known."""
    return isinstance(tensor, gs.Constant)


def integers(name: str, values: Sequence[int]) -> gs.Constant:
    """A constant vector, such as a shape or the sizes of a split."""
    return gs.Constant(name, np.array(values, np.int64))


def detach(node: gs.Node) -> None:
    """Takes a node out of the graph; its outputs are free to be computed by another one."""
    node.inputs.clear()
    node.outputs.clear()
