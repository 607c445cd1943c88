"""Layers on sequences as layers on rows, between one attention and the next."""

from collections.abc import Iterable
from math import prod

import onnx_graphsurgeon as gs

from hwprune.graph.cost import weight_input
from hwprune.rewrites.edit import integers, is_constant, leaves, on_a_copy, producer

_ALONE = frozenset({"Relu", "Clip", "Erf", "Gelu", "Tanh", "Sigmoid", "Exp", "Sqrt", "LeakyRelu"})
_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div"})
_ALONG_LAST = frozenset({"Softmax", "LayerNormalization"})
_FEWEST = 2  # products; fewer do not repay a reshape on either side


@on_a_copy
def flatten_sequences(graph: gs.Graph) -> None:
    """Runs products, biases, normalisations and residuals on N * L x C instead of N x L x C.

    A runtime that computes a product and its bias as one Gemm, which takes matrices, puts a reshape
    in front of each and another one behind. Attention reshapes anyway: it may as well start from
    rows. Equal up to the rounding of the fused product.

    Precondition: the operators work along the last axis or elementwise, and share all leading axes;
    there are at least two products among them.
    """
    for region in _regions(graph):
        inside = {id(node) for node in region}
        for node in region:
            if node.op in _ALONG_LAST:
                node.attrs["axis"] = -1
        for tensor in list({id(t): t for node in region for t in _moving(node)}.values()):
            _flatten(graph, tensor, inside)


def _regions(graph: gs.Graph) -> list[list[gs.Node]]:
    """Nodes that treat every row by itself, as far as they are connected."""
    nodes = [node for node in graph.nodes if _by_row(node)]
    touching: dict[int, list[gs.Node]] = {}
    for node in nodes:
        for tensor in _moving(node):
            touching.setdefault(id(tensor), []).append(node)
    found, seen = [], set[int]()
    for start in nodes:
        region, waiting = list[gs.Node](), [start]
        while waiting:
            node = waiting.pop()
            if id(node) not in seen:
                seen.add(id(node))
                region.append(node)
                waiting += [other for t in _moving(node) for other in touching[id(t)]]
        if sum(node.op == "MatMul" for node in region) >= _FEWEST:
            found.append(region)
    return found


def _by_row(node: gs.Node) -> bool:
    if len(node.outputs) != 1 or len(node.outputs[0].shape or ()) < 3:
        return False
    moving, lead = _moving(node), list(node.outputs[0].shape)[:-1]
    if any(list(tensor.shape)[:-1] != lead for tensor in moving):
        return False
    if node.op == "MatMul":
        return weight_input(node) == 1 and len(node.inputs[1].shape) == 2
    if node.op in _ALONG_LAST:
        return bool(node.attrs.get("axis", -1) % (len(lead) + 1) == len(lead))
    flat = all(len(t.shape) < 2 for t in node.inputs if is_constant(t))
    return node.op in _ALONE or (node.op in _BROADCASTING and flat)


def _moving(node: gs.Node) -> list[gs.Tensor]:
    """What it reads and makes that depends on the input."""
    return [*(t for t in node.inputs if isinstance(t, gs.Variable) and t.name), *node.outputs]


def _flatten(graph: gs.Graph, tensor: gs.Tensor, inside: set[int]) -> None:
    """Makes rows of a tensor; whoever needs it as it was, or makes it so, gets a reshape."""
    maker = producer(tensor)
    makes = maker is not None and (id(maker) in inside or _reshapes(maker))
    outside = [node for node in tensor.outputs if id(node) not in inside and not _reshapes(node)]
    if makes and not outside and not leaves(tensor, graph):
        _retarget(maker, tensor)
        return
    rows = gs.Variable(f"{tensor.name}/rows", tensor.dtype, _rows(tensor))
    if maker is not None and id(maker) in inside:
        maker.outputs = [rows]
        _reshape(graph, rows, tensor)
    else:
        _reshape(graph, tensor, rows)
    for node in [node for node in tensor.outputs if id(node) in inside]:
        node.inputs = [rows if t is tensor else t for t in node.inputs]


def _retarget(maker: gs.Node | None, tensor: gs.Tensor) -> None:
    tensor.shape = _rows(tensor)
    reshapes = [node for node in [maker, *tensor.outputs] if node is not None and _reshapes(node)]
    for node in reshapes:
        node.inputs[1] = integers(f"{node.name}/shape", _sizes(node.outputs[0].shape))
        node.attrs.clear()


def _reshapes(node: gs.Node) -> bool:
    return node.op == "Reshape" and is_constant(node.inputs[1])


def _reshape(graph: gs.Graph, source: gs.Tensor, result: gs.Tensor) -> None:
    name = f"{result.name}/reshape"
    target = integers(f"{name}/shape", _sizes(result.shape))
    graph.nodes.append(gs.Node("Reshape", name, {}, [source, target], [result]))


def _rows(tensor: gs.Tensor) -> list[int]:
    *lead, columns = _sizes(tensor.shape)
    return [prod(lead), columns]


def _sizes(shape: Iterable[int]) -> list[int]:
    return [int(size) for size in shape]
